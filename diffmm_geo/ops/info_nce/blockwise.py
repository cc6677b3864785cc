from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffmm_geo.ops.dense import (
    block_size,
    compute_dtype,
    matmul,
    once_differentiable,
    prefers_onednn,
)

# Size of a block of cosines on a CPU, so that it stays in cache.
BLOCK_BYTES = 2**22
MAX_CANDIDATES = 2**14

# Up to this bound, logits need no shift: sums of exponentials over 10^9
# candidates stay well within float32.
MAX_LOGIT = 40.0


class _Block(NamedTuple):
    r"""Candidates of some of the views."""

    views: slice
    columns: Tensor
    # In a sample, the columns of the anchors' own nodes, and whether each is
    # another node's.
    own: tuple[Tensor, Tensor] | None


class _InfoNCE(torch.autograd.Function):
    # The loss is a scalar, so the forward pass can compute gradients up to a
    # factor while a block of cosines is in cache.
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        place: Tensor,
        scale: Tensor | None,
        max_logit: float,
        query: Tensor,
        views: Tensor,
    ) -> Tensor:
        positive, candidates = _split(views, place, scale)
        # Products have the type of autocast, and sums that of the inputs.
        columns = candidates.to(compute_dtype(query))
        groups = _groups(columns, place, scale)
        # Of one view, as the gradients of candidates are added for each block.
        width = groups[0][0].columns.size(1)
        size = width * columns.element_size()
        height = max(1, block_size(BLOCK_BYTES, query.device) // size)
        needs = ctx.needs_input_grad[4:]
        grads = _Gradients([[None] * len(group) for group in groups], [], [])
        total = None
        for start in range(0, query.size(1), height):
            rows = slice(start, start + height)
            loss = _rows(
                grads,
                needs,
                rows,
                weight[rows].view(-1, 1),
                None if scale is None else scale[:, rows].unsqueeze(-1),
                max_logit,
                query[:, rows],
                positive[:, rows],
                groups,
            )
            total = _add(total, loss)
        assert total is not None
        made = grads.finish(needs, place, scale is not None)
        ctx.save_for_backward(*made)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        made = (None if x is None else x * grad for x in ctx.saved_tensors)
        return None, None, None, None, *made


def _split(
    views: Tensor, place: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""The positives and the candidates of each view."""
    if scale is None:
        return views.index_select(1, place[0]), views
    return views[:, : place.size(1)], views[:, place.size(1) :]


def _groups(
    columns: Tensor,
    place: Tensor,
    scale: Tensor | None,
) -> list[list[_Block]]:
    r"""Blocks of candidates for each group of views."""
    num_views, num_columns, _ = columns.size()
    width = min(num_columns, MAX_CANDIDATES)
    # oneDNN multiplies one view at a time.
    on_cpu = columns.device.type == 'cpu' and columns.dtype == torch.float
    group = 1 if on_cpu and prefers_onednn() else num_views
    place = place.expand(num_views, -1)

    def block(views: slice, start: int) -> _Block:
        own = None
        if scale is not None:
            local = place[views] - start if start > 0 else place[views]
            column = local.clamp(0, width - 1)
            own = column, column != local
        return _Block(views, columns[views, start : start + width], own)

    return [
        [block(slice(n, n + group), i) for i in range(0, num_columns, width)]
        for n in range(0, num_views, group)
    ]


def _rows(
    grads: '_Gradients',
    needs: Sequence[bool],
    rows: slice,
    weight: Tensor,
    scale: Tensor | None,
    max_logit: float,
    query: Tensor,
    positive: Tensor,
    groups: Sequence[Sequence[_Block]],
) -> Tensor:
    r"""Computes the loss of a block of anchors, and adds its gradients."""
    dtype, low = query.dtype, groups[0][0].columns.dtype
    q = query.to(low)
    logit = (query * positive).sum(dim=-1, keepdim=True)

    def cosines(block: _Block) -> Tensor:
        own = q if q.size(0) == 1 else q[block.views]
        return _products(own, block.columns.transpose(1, 2))

    shift = None
    if max_logit > MAX_LOGIT:
        shift = logit.to(low)
        for blocks in zip(*groups):
            peaks = [cosines(block).amax(-1, True) for block in blocks]
            shift = torch.maximum(shift, _cat(peaks, 0))

    def exp(block: _Block) -> Tensor:
        out = cosines(block)
        if shift is not None:
            out.sub_(shift[block.views])
        out.exp_()
        if block.own is not None:
            # The sample estimates the sum over all nodes except the positive.
            column, is_other = (x[:, rows].reshape(-1) for x in block.own)
            place = torch.arange(
                0, out.numel(), out.size(2), device=out.device
            ).add_(column)
            flat = out.view(-1)
            flat.index_copy_(0, place, flat.index_select(0, place) * is_other)
        return out

    # The sum of exp(logit - shift) over all nodes. A single block is kept for
    # the gradients. Several blocks are recomputed.
    norm = None
    for blocks in zip(*groups):
        probs = [exp(block) for block in blocks]
        sums = _cat([prob.sum(-1, keepdim=True) for prob in probs], 0)
        norm = _add(norm, sums.to(dtype))
    assert norm is not None
    pull, share = -weight, weight
    if scale is not None:
        own = (logit if shift is None else logit - shift).exp()
        norm = torch.addcmul(own, scale, norm)
        pull, share = weight * (own / norm - 1), weight * scale
    log_norm = norm.log() if shift is None else norm.log() + shift
    loss = (weight * (log_norm - logit)).sum()
    if not any(needs):
        return loss

    # Scale the narrow operands instead of dividing blocks by `norm`.
    share = share / norm
    scaled = (query * share).to(low).transpose(1, 2)
    of_query = []
    for number, group in enumerate(groups):
        product = None
        for n, block in enumerate(group):
            prob = probs[number] if len(group) == 1 else exp(block)
            if needs[0]:
                made = _products(prob, block.columns)
                product = _add(product, made.to(dtype))
            if needs[1]:
                made = _products(scaled[block.views], prob).to(dtype)
                blocks_of = grads.of_candidates[number]
                blocks_of[n] = _add(blocks_of[n], made)
        of_query.append(product)
    if needs[0]:
        total = torch.addcmul(pull * positive, share, _cat(of_query, 0))
        if query.size(0) == 1:
            total = total.sum(dim=0, keepdim=True)
        grads.of_query.append(total)
    if needs[1]:
        grads.of_positive.append(pull * query)
    return loss


class _Gradients(NamedTuple):
    r"""The gradients by block. Those of candidates are transposed, for faster
    products.
    """

    of_candidates: list[list[Tensor | None]]
    of_query: list[Tensor]
    of_positive: list[Tensor]

    def finish(
        self, needs: Sequence[bool], place: Tensor, is_sample: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        r"""The gradients of anchors and of views."""
        of_query = _cat(self.of_query, 1) if needs[0] else None
        if not needs[1]:
            return of_query, None
        blocks = [_cat(group, 2) for group in self.of_candidates]
        of_views = _cat(blocks, 0).transpose(1, 2)
        positive = _cat(self.of_positive, 1)
        positive = positive.expand(of_views.size(0), -1, -1)
        if is_sample:
            return of_query, torch.cat([positive, of_views], dim=1)
        of_views = of_views.contiguous()
        return of_query, of_views.index_add_(1, place[0], positive)


def _products(a: Tensor, b: Tensor) -> Tensor:
    r"""A product for each view."""
    if b.size(0) == 1:
        return matmul(a[0], b[0]).unsqueeze(0)
    return a @ b


def _add(total: Tensor | None, x: Tensor) -> Tensor:
    return x if total is None else total.add_(x)


def _cat(x: Sequence[Tensor | None], dim: int) -> Tensor:
    parts = [part for part in x if part is not None]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def info_nce_blockwise(
    query: Tensor,
    views: Tensor,
    weight: Tensor,
    place: Tensor,
    scale: Tensor | None,
    max_logit: float,
) -> Tensor:
    r"""Computes InfoNCE of anchors against several views in blocks of
    cosines.

    Args:
        query (torch.Tensor): The normalized anchors, divided by the
            temperature, of each view or of all.
        views (torch.Tensor): The normalized candidates of each view. If they
            are sampled, the normalized positives of the anchors come first.
        weight (torch.Tensor): The weight of each anchor.
        place (torch.Tensor): The position of each anchor's positive among the
            candidates, or :obj:`-1`.
        scale (torch.Tensor, optional): The number of nodes that each sampled
            candidate represents. The positive is then added to the sum
            separately. If not given, all nodes are candidates.
        max_logit (float): An upper bound of the logits.

    Shapes:
        - **query:** :math:`(V, B, F)` or :math:`(1, B, F)`
        - **views:** :math:`(V, N, F)`, or :math:`(V, B + S, F)`
        - **weight:** :math:`(B)`
        - **place, scale:** :math:`(V, B)` or :math:`(1, B)`; the latter if all
          nodes are candidates
        - **output:** scalar
    """
    out: Tensor = _InfoNCE.apply(weight, place, scale, max_logit, query, views)
    return out
