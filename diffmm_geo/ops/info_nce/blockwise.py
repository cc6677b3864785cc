from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.composed_grads import composed_grads
from diffmm_geo.ops.device import block_size
from diffmm_geo.ops.product import compute_dtype, matmul

# Size of a block of cosines on a CPU, so that it stays in cache.
BLOCK_BYTES = 2**22
MAX_CANDIDATES = 2**14

# Up to this bound, logits need no shift: sums of exponentials over 10^9
# candidates stay well within float32.
MAX_LOGIT = 40.0


class _InfoNCE(torch.autograd.Function):
    # The loss is a scalar, so the forward pass can compute gradients up to a
    # factor while a block of cosines is in cache.
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        place: Tensor,
        scale: Tensor | None,
        column_weight: Tensor | None,
        max_logit: float,
        query: Tensor,
        *views: Tensor,
    ) -> Tensor:
        # Products have the type of autocast, and sums that of the inputs.
        low = compute_dtype(query)
        grads = _Gradients(query, views, ctx.needs_input_grad[5:])
        total = query.new_zeros(())
        pairs = zip(views[::2], views[1::2])
        for view, (candidate, positive) in enumerate(pairs):
            columns = candidate.to(low)
            width = min(columns.size(0), MAX_CANDIDATES)
            size = columns.element_size() * width
            height = max(1, block_size(BLOCK_BYTES, query.device) // size)
            for start in range(0, query.size(0), height):
                rows = slice(start, start + height)
                total += _rows(
                    grads,
                    view,
                    rows,
                    weight[rows].unsqueeze(1),
                    place[rows],
                    None if scale is None else scale[rows].unsqueeze(1),
                    column_weight,
                    max_logit,
                    query[rows],
                    positive[rows],
                    columns,
                    width,
                )
        ctx.save_for_backward(
            *(weight, place, scale, column_weight),
            *(query, *views),
            *grads.finish(),
        )
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Four operands, then the inputs, then as many gradients.
        half = len(ctx.saved_tensors) // 2 + 2
        inputs, saved = ctx.saved_tensors[4:half], ctx.saved_tensors[half:]
        made: Iterable[Tensor | None]
        if torch.is_grad_enabled():  # For second derivatives.
            operands = ctx.saved_tensors[:4]
            made = composed_grads(
                lambda *inputs: _composed(*operands, *inputs), inputs, [grad]
            )
        else:
            made = (None if x is None else x * grad for x in saved)
        return None, None, None, None, None, *made


def _composed(
    weight: Tensor,
    place: Tensor,
    scale: Tensor | None,
    column_weight: Tensor | None,
    query: Tensor,
    *views: Tensor,
) -> Tensor:
    r"""The loss with the full matrix of cosines."""
    total = query.new_zeros(())
    for candidate, positive in zip(views[::2], views[1::2]):
        logit = query @ candidate.t()
        own = (query * positive).sum(dim=1)
        shift = torch.maximum(logit.amax(dim=1), own).detach()
        exp = (logit - shift.view(-1, 1)).exp()
        if column_weight is not None:
            exp = exp * column_weight
        if scale is None:
            norm = exp.sum(dim=1)
        else:
            column = torch.arange(exp.size(1), device=exp.device)
            others = exp.masked_fill(column == place.view(-1, 1), 0.0)
            norm = (own - shift).exp() + scale * others.sum(dim=1)
        total = total + (weight * (norm.log() + shift - own)).sum()
    return total


def _rows(
    grads: '_Gradients',
    view: int,
    rows: slice,
    weight: Tensor,
    place: Tensor,
    scale: Tensor | None,
    column_weight: Tensor | None,
    max_logit: float,
    query: Tensor,
    positive: Tensor,
    candidate: Tensor,
    width: int,
) -> Tensor:
    r"""Computes the loss of a block of anchors, and adds its gradients."""
    q = query.to(candidate.dtype)
    blocks = [slice(i, i + width) for i in range(0, candidate.size(0), width)]
    logit = (query * positive).sum(dim=1, keepdim=True)
    shift = None
    if max_logit > MAX_LOGIT:
        peaks = [matmul(q, candidate[b].t()).amax(1, True) for b in blocks]
        shift = torch.cat([logit.to(q.dtype), *peaks], dim=1).amax(1, True)

    def exp(block: slice) -> Tensor:
        out = matmul(q, candidate[block].t())
        if shift is not None:
            out.sub_(shift)
        out.exp_()
        if column_weight is not None:
            out.mul_(column_weight[block])
        if scale is not None:
            # The sample estimates the sum over all nodes except the positive.
            inside = (place >= block.start) & (place < block.stop)
            column = (place - block.start).clamp(0, out.size(1) - 1)
            row = torch.arange(out.size(0), device=out.device)
            out[row, column] *= ~inside
        return out

    # The sum of exp(logit - shift) over all nodes. A single block is kept for
    # the gradients. Several blocks are recomputed.
    norm = torch.zeros_like(logit)
    for block in blocks:
        prob = exp(block)
        norm += prob.sum(dim=1, keepdim=True)
    log_norm, share = norm.log(), torch.zeros_like(norm)
    if scale is not None:
        own = (logit if shift is None else logit - shift).exp()
        norm = own + scale * norm
        log_norm, share = norm.log(), own / norm
        norm = norm / scale
    if shift is not None:
        log_norm = log_norm + shift
    loss = (weight * (log_norm - logit)).sum()
    if not grads.needed:
        return loss

    # Scale the narrow operands instead of dividing blocks by `norm`.
    scaled = (query * (weight / norm)).to(q.dtype)
    grad_query = torch.zeros_like(query)
    for block in blocks:
        if len(blocks) > 1:
            prob = exp(block)
        if grads.of_query is not None:
            grad_query += matmul(prob, candidate[block])
        grad_candidate = grads.of_candidate[view]
        if grad_candidate is not None:
            grad_candidate[:, block] += matmul(scaled.t(), prob)
    pull = weight * (share - 1)
    if grads.of_query is not None:
        grads.of_query[rows] += weight / norm * grad_query + pull * positive
    grad_positive = grads.of_positive[view]
    if grad_positive is not None:
        grad_positive[rows] = pull * query
    return loss


class _Gradients:
    r"""Accumulates the gradients of anchors, candidates and positives. Those
    of candidates are transposed, for faster products.
    """

    def __init__(
        self, query: Tensor, views: Sequence[Tensor], needs: Sequence[bool]
    ) -> None:
        self.needed = any(needs)
        self.of_query = torch.zeros_like(query) if needs[0] else None
        self.of_candidate = [
            view.new_zeros(view.size(1), view.size(0)) if need else None
            for view, need in zip(views[::2], needs[1::2])
        ]
        self.of_positive = [
            torch.empty_like(view) if need else None
            for view, need in zip(views[1::2], needs[2::2])
        ]

    def finish(self) -> list[Tensor | None]:
        out = [self.of_query]
        for candidate, positive in zip(self.of_candidate, self.of_positive):
            out += [None if candidate is None else candidate.t(), positive]
        return out


def info_nce_blockwise(
    query: Tensor,
    candidates: Sequence[Tensor],
    positives: Sequence[Tensor],
    weight: Tensor,
    place: Tensor,
    scale: Tensor | None,
    max_logit: float,
    column_weight: Tensor | None = None,
) -> Tensor:
    r"""Computes InfoNCE of one anchor against several views in blocks of
    cosines.

    Args:
        query (torch.Tensor): The normalized anchors, divided by the
            temperature.
        candidates (list[torch.Tensor]): The normalized candidates of each
            view.
        positives (list[torch.Tensor]): The normalized positives of the anchors
            in each view.
        weight (torch.Tensor): The weight of each anchor.
        place (torch.Tensor): The position of each anchor's positive among the
            candidates, or :obj:`-1`.
        scale (torch.Tensor, optional): The number of nodes that each sampled
            candidate represents. The positive is then added to the sum
            separately. If not given, all nodes are candidates.
        max_logit (float): An upper bound of the logits.
        column_weight (torch.Tensor, optional): A weight of each sampled
            candidate, in addition to :obj:`scale`. (default: :obj:`None`)

    Shapes:
        - **query:** :math:`(B, F)`
        - **candidates:** :math:`(S, F)`
        - **positives:** :math:`(B, F)`
        - **weight, place, scale:** :math:`(B)`
        - **column_weight:** :math:`(S)`
        - **output:** scalar
    """
    views = [x for pair in zip(candidates, positives) for x in pair]
    out: Tensor = _InfoNCE.apply(
        weight, place, scale, column_weight, max_logit, query, *views
    )
    return out
