from collections.abc import Sequence

import torch
from torch import Tensor

from diffmm_geo.ops.product import compute_dtype
from diffmm_geo.ops.runs_triton import runs_triton
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
    sample: tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor:
    r"""The sum of the losses of several views against one anchor, in one
    pass: blocks of cosines, or with :obj:`backend="triton"`, our own kernels.

    :obj:`sample` are distinct nodes and the number of nodes that each stands
    for, one over its probability to be among them; see
    :func:`~diffmm_geo.nn.info_nce`.
    """
    takes_all = sample is None and (
        num_candidates is None or num_candidates >= anchor.size(0)
    )
    backend = _find_backend(backend, index.device, takes_all)
    dtype = torch.promote_types(anchor.dtype, candidates[0].dtype)
    # Sums over all nodes need more digits than half precision has.
    compute = torch.promote_types(dtype, torch.float)
    weight = anchor.new_full(index.size(), 1 / index.numel(), dtype=compute)
    if not index.is_cuda:  # Where it would wait for the device.
        # A node that comes more than once is computed once.
        index, inverse = index.unique(return_inverse=True)
        weight = weight.new_zeros(index.size()).index_add_(0, inverse, weight)
    # The temperature is folded into the anchors: a pass over [B, F], not
    # one over [B, N].
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
            )
            return loss.to(dtype)
        positives = [view.index_select(0, index) for view in views]
        place, scale = index, None
    else:
        drawn, column_weight = _sample(
            num_nodes, num_candidates, sample, index.device
        )
        rows = torch.cat([index, drawn])
        sizes = [index.numel(), drawn.numel()]
        positives, views = [], []
        for view in candidates:
            x = unit_rows(view.index_select(0, rows).to(compute))
            for out, part in zip((positives, views), x.split(sizes)):
                out.append(part)
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
        query,
        views,
        positives,
        weight,
        place,
        scale,
        max_logit,
        column_weight,
    )
    return loss.to(dtype)


def _find_backend(
    name: str | None, device: torch.device, takes_all: bool
) -> str:
    # A context is a preference, an argument is a demand.
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
            "'backend' needs to be 'blockwise' where candidates are a sample "
            "(got 'triton')"
        )
    return name


def _sample(
    num_nodes: int,
    num_candidates: int | None,
    sample: tuple[Tensor, Tensor] | None,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    r"""The candidates, and where they are a sample, what each stands for."""
    if sample is None:
        assert num_candidates is not None
        return _draw(num_nodes, num_candidates, device), None
    drawn, stands_for = sample
    size = drawn.numel()
    if num_candidates is None or num_candidates >= size:
        return drawn, stands_for
    some = _draw(size, num_candidates, device)
    return drawn[some], stands_for[some] * (size / num_candidates)


def _draw(num_nodes: int, size: int, device: torch.device) -> Tensor:
    r"""Some of the nodes, none twice."""
    return torch.randperm(num_nodes, device=device)[:size]
