from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from diffmm_geo.ops.dense import compute_dtype, unit_rows
from diffmm_geo.ops.device import runs_triton
from diffmm_geo.ops.spmm.registry import chosen_backend
from diffmm_geo.utils.checks import check_choice

from .blockwise import info_nce_blockwise
from .naive import info_nce_naive
from .triton import info_nce_triton

BACKENDS = ('naive', 'blockwise', 'triton')


@dataclass(frozen=True, eq=False)
class Nodes:
    r"""The views of the nodes of one type, and which of them are anchors."""

    anchor: Tensor
    candidates: Sequence[Tensor]
    index: Tensor


def info_nce_views(
    nodes: Nodes,
    temperature: float,
    num_candidates: int | None = None,
    backend: str | None = None,
    precision: str = 'ieee',
) -> Tensor:
    r"""Sums :func:`~diffmm_geo.nn.info_nce` of one anchor over several views in
    one pass, without checking arguments.
    """
    anchor, candidates, index = nodes.anchor, nodes.candidates, nodes.index
    num_drawn = _num_drawn(anchor, num_candidates)
    backend = _find_backend(backend, index.device, num_drawn is None)
    if precision != 'ieee' and backend != 'triton':
        raise ValueError(
            f"'precision' needs to be 'ieee' unless backend='triton' "
            f'(got {precision!r} with backend={backend!r})'
        )
    if num_drawn is not None:
        return _sampled([nodes], temperature, num_drawn)
    dtype, compute = _types(nodes)
    if backend == 'naive':
        terms = [
            info_nce_naive(
                anchor.to(compute), x.to(compute), index, temperature
            )
            for x in candidates
        ]
        return reduce(torch.add, terms).to(dtype)
    weight = anchor.new_full(index.size(), 1 / index.numel(), dtype=compute)
    if not index.is_cuda:  # On a GPU, this would synchronize.
        # Compute repeated nodes once.
        index, inverse = index.unique(return_inverse=True)
        weight = weight.new_zeros(index.size()).index_add_(0, inverse, weight)
    # Scaling anchors is cheaper than scaling the [B, N] logits.
    query = unit_rows(anchor.index_select(0, index).to(compute)) / temperature
    views = unit_rows(torch.stack(list(candidates)).to(compute))
    if backend == 'triton':
        low = compute_dtype(query)
        inputs = query.to(low), views.to(low), index, weight
        loss = info_nce_triton(*inputs, 1.0 / temperature, precision)
    else:
        inputs = query.unsqueeze(0), views, weight, index.unsqueeze(0)
        loss = info_nce_blockwise(*inputs, None, 1.0 / temperature)
    return loss.to(dtype)


def info_nce_types(
    types: Sequence[Nodes], temperature: float, num_candidates: int | None
) -> Tensor:
    r"""Sums :func:`info_nce_views` over node types, together if candidates are
    sampled and their numbers are the same.
    """
    sizes = {
        (
            len(x.candidates),
            x.index.numel(),
            _num_drawn(x.anchor, num_candidates),
        )
        for x in types
    }
    _, _, num_drawn = next(iter(sizes))
    if len(sizes) == 1 and num_drawn is not None:
        return _sampled(types, temperature, num_drawn)
    terms = [info_nce_views(x, temperature, num_candidates) for x in types]
    return reduce(torch.add, terms)


def _num_drawn(anchor: Tensor, num_candidates: int | None) -> int | None:
    r"""The number of sampled candidates, or none if all nodes are."""
    if num_candidates is None or num_candidates >= anchor.size(0):
        return None
    return num_candidates


def _types(nodes: Nodes) -> tuple[torch.dtype, torch.dtype]:
    r"""The types of the loss, and of its computation."""
    dtype = torch.promote_types(nodes.anchor.dtype, nodes.candidates[0].dtype)
    # Sums over all nodes exceed half precision.
    return dtype, torch.promote_types(dtype, torch.float)


def _sampled(types: Sequence[Nodes], temperature: float, size: int) -> Tensor:
    r"""The loss of sampled candidates, in the same number for all types
    (:obj:`size`).
    """
    dtype, compute = _types(types[0])
    num_views = len(types[0].candidates)
    queries, views, places, scales = [], [], [], []
    for x in types:
        index, num_nodes = x.index, x.anchor.size(0)
        drawn = _draw(num_nodes, size, index.device)
        rows = torch.cat([index, drawn])
        queries.append(x.anchor.index_select(0, index))
        views += [view.index_select(0, rows) for view in x.candidates]
        place = index.new_full((num_nodes,), -1)
        place[drawn] = torch.arange(size, device=index.device)
        place = place.index_select(0, index)
        places.append(place)
        others = num_nodes - 1
        scale = x.anchor.new_full(index.size(), others / size, dtype=compute)
        # A drawn positive leaves one less to represent the others.
        scale.masked_fill_(place >= 0, others / max(size - 1, 1))
        scales.append(scale)

    def of_views(x: Sequence[Tensor]) -> Tensor:
        # A single type broadcasts.
        if len(x) == 1:
            return x[0].unsqueeze(0)
        return torch.stack([x_t for x_t in x for _ in range(num_views)])

    query = unit_rows(torch.stack(queries).to(compute)) / temperature
    if len(types) > 1:
        query = query.repeat_interleave(num_views, dim=0)
    loss = info_nce_blockwise(
        query,
        unit_rows(torch.stack(views).to(compute)),
        query.new_full((query.size(1),), 1 / query.size(1)),
        of_views(places),
        of_views(scales),
        1.0 / temperature,
    )
    return loss.to(dtype)


def _find_backend(
    name: str | None, device: torch.device, takes_all: bool
) -> str:
    # The context, unlike an argument, is a preference.
    if name is None:
        name = chosen_backend()
        runs = name == 'naive' or (name == 'triton' and runs_triton(device))
        return name if name and runs and takes_all else 'blockwise'
    check_choice('backend', name, BACKENDS)
    if name == 'triton' and not runs_triton(device):
        raise ValueError(
            f"'backend' needs to be one that runs on '{device}' (got "
            f"'triton', which needs a GPU and the package triton)"
        )
    if name != 'blockwise' and not takes_all:
        raise ValueError(
            f"'backend' needs to be 'blockwise' if candidates are sampled "
            f'(got {name!r})'
        )
    return name


def _draw(num_nodes: int, size: int, device: torch.device) -> Tensor:
    r"""Draws distinct nodes."""
    return torch.randperm(num_nodes, device=device)[:size]
