from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .blockwise import info_nce_blockwise


def info_nce_views(
    anchor: Tensor,
    candidates: Sequence[Tensor],
    index: Tensor,
    temperature: float,
    num_candidates: int | None = None,
) -> Tensor:
    r"""The sum of the losses of several views against one anchor, in one
    pass.
    """
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
    query = F.normalize(anchor[index].to(compute), dim=-1) / temperature
    views = [F.normalize(c.to(compute), dim=-1) for c in candidates]
    positives = [view[index] for view in views]

    place, scale = index, None
    num_nodes = anchor.size(0)
    if num_candidates is not None and num_candidates < num_nodes:
        drawn = _draw(num_nodes, num_candidates, index.device)
        views = [view[drawn] for view in views]
        place = index.new_full((num_nodes,), -1)
        place[drawn] = torch.arange(num_candidates, device=index.device)
        place = place[index]
        others = num_candidates - (place >= 0).to(compute)
        scale = (num_nodes - 1) / others.clamp(min=1)
    loss = info_nce_blockwise(
        query, views, positives, weight, place, scale, 1.0 / temperature
    )
    return loss.to(dtype)


def _draw(num_nodes: int, size: int, device: torch.device) -> Tensor:
    r"""Some of the nodes, none twice."""
    return torch.randperm(num_nodes, device=device)[:size]
