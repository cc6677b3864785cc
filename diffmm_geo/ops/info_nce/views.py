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
) -> Tensor:
    r"""Sums :func:`~diffmm_geo.nn.info_nce` of one anchor over several views in
    one pass, without checking arguments.
    """
    takes_all = candidate_sample is None and (
        num_candidates is None or num_candidates >= anchor.size(0)
    )
    backend = _find_backend(backend, index.device, takes_all)
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

    place, scale, column_weight = index, None, None
    if not takes_all:
        drawn, column_weight = _draw_candidates(
            num_nodes, num_candidates, candidate_sample, index.device
        )
        rows = torch.cat([index, drawn])
        candidates = [view.index_select(0, rows) for view in candidates]
        place = index.new_full((num_nodes,), -1)
        place[drawn] = torch.arange(drawn.numel(), device=index.device)
        place = place.index_select(0, index)
        if column_weight is None:
            # A drawn positive leaves one less to represent the others.
            size, others = drawn.numel(), num_nodes - 1
            scale = weight.new_full(index.size(), others / size)
            scale.masked_fill_(place >= 0, others / max(size - 1, 1))
        else:
            column_weight = column_weight.to(compute)
            scale = torch.ones_like(weight)
    views = unit_rows(torch.stack(candidates).to(compute))
    if backend == 'triton':
        low = compute_dtype(query)
        loss = info_nce_triton(
            query.to(low), views.to(low), index, weight, max_logit
        )
    else:
        loss = info_nce_blockwise(
            query, views, weight, place, scale, max_logit, column_weight
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
