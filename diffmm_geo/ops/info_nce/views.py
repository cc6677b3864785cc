from collections.abc import Sequence

import torch
from torch import Tensor

from diffmm_geo.ops.device import runs_triton
from diffmm_geo.ops.product import compute_dtype
from diffmm_geo.ops.spmm.registry import chosen_backend
from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.utils.checks import check_choice

from .blockwise import info_nce_blockwise
from .triton import info_nce_triton

BACKENDS = ('blockwise', 'triton')


def info_nce_views(
    anchor: Tensor,
    candidates: Sequence[Tensor],
    index: Tensor,
    temperature: float,
    num_candidates: int | None = None,
    candidate_sample: tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
    precision: str = 'ieee',
) -> Tensor:
    r"""Sums :func:`~diffmm_geo.nn.info_nce` of one anchor over several views in
    one pass, without checking arguments.
    """
    takes_all = candidate_sample is None and (
        num_candidates is None or num_candidates >= anchor.size(0)
    )
    backend = _find_backend(backend, index.device, takes_all)
    if precision != 'ieee' and backend != 'triton':
        raise ValueError(
            f"'precision' needs to be 'ieee' unless backend='triton' "
            f'(got {precision!r} with backend={backend!r})'
        )
    dtype = torch.promote_types(anchor.dtype, candidates[0].dtype)
    # Sums over all nodes exceed half precision.
    compute = torch.promote_types(dtype, torch.float)
    weight = anchor.new_full(index.size(), 1 / index.numel(), dtype=compute)
    if not index.is_cuda:  # On a GPU, this would synchronize.
        # Compute repeated nodes once.
        index, inverse = index.unique(return_inverse=True)
        weight = weight.new_zeros(index.size()).index_add_(0, inverse, weight)
    # Scaling anchors is cheaper than scaling the [B, N] logits.
    query = unit_rows(anchor.index_select(0, index).to(compute))
    query = query / temperature
    max_logit, num_nodes = 1.0 / temperature, anchor.size(0)

    column_weight = None
    if takes_all:
        views = [unit_rows(view.to(compute)) for view in candidates]
        if backend == 'triton':
            low = compute_dtype(query)
            loss = info_nce_triton(
                query.to(low),
                torch.stack(views).to(low),
                index,
                weight,
                max_logit,
                precision,
            )
            return loss.to(dtype)
        positives = [view.index_select(0, index) for view in views]
        place, scale = index, None
    else:
        drawn, column_weight = _draw_candidates(
            num_nodes, num_candidates, candidate_sample, index.device
        )
        rows = torch.cat([index, drawn])
        sizes = [index.numel(), drawn.numel()]
        pairs = [
            unit_rows(view.index_select(0, rows).to(compute)).split(sizes)
            for view in candidates
        ]
        positives, views = (list(x) for x in zip(*pairs))
        place = index.new_full((num_nodes,), -1)
        place[drawn] = torch.arange(drawn.numel(), device=index.device)
        place = place[index]
        if column_weight is None:
            others = drawn.numel() - (place >= 0).to(compute)
            scale = (num_nodes - 1) / others.clamp(min=1)
        else:
            column_weight = column_weight.to(compute)
            scale = torch.ones_like(weight)
    loss = info_nce_blockwise(
        query, views, positives, weight, place, scale, max_logit, column_weight
    )
    return loss.to(dtype)


def _find_backend(
    name: str | None, device: torch.device, takes_all: bool
) -> str:
    # The context, unlike an argument, is a preference.
    if name is None:
        prefers_triton = chosen_backend() == 'triton'
        if prefers_triton and takes_all and runs_triton(device):
            return 'triton'
        return 'blockwise'
    check_choice('backend', name, BACKENDS)
    if name == 'triton' and not runs_triton(device):
        raise ValueError(
            f"'backend' needs to be one that runs on '{device}' (got "
            f"'triton', which needs a GPU and the package triton)"
        )
    if name == 'triton' and not takes_all:
        raise ValueError(
            "'backend' needs to be 'blockwise' if candidates are sampled "
            "(got 'triton')"
        )
    return name


def _draw_candidates(
    num_nodes: int,
    num_candidates: int | None,
    candidate_sample: tuple[Tensor, Tensor] | None,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    r"""Returns candidates, and their weights if from a sample."""
    if candidate_sample is None:
        assert num_candidates is not None
        return _draw(num_nodes, num_candidates, device), None
    drawn, weight = candidate_sample
    size = drawn.numel()
    if num_candidates is None or num_candidates >= size:
        return drawn, weight
    some = _draw(size, num_candidates, device)
    return drawn[some], weight[some] * (size / num_candidates)


def _draw(num_nodes: int, size: int, device: torch.device) -> Tensor:
    r"""Draws distinct nodes."""
    return torch.randperm(num_nodes, device=device)[:size]
