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

# The candidates of each view, the anchors' own columns, and column weights.
Block = tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]


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
        views: Tensor,
    ) -> Tensor:
        operands = weight, place, scale, column_weight
        positive, candidates = _split(views, place, scale)
        # Products have the type of autocast, and sums that of the inputs.
        low, num_candidates = compute_dtype(query), candidates.size(1)
        width = min(num_candidates, MAX_CANDIDATES)
        columns = candidates.to(low).split(width, dim=1)
        starts = range(0, num_candidates, width)
        own = [None if scale is None else _own(place, n, width) for n in starts]
        column_weights: list[Tensor | None] = [None] * len(columns)
        if column_weight is not None:
            column_weights = list(column_weight.split(width))
        blocks = list(zip(columns, own, column_weights))

        grads = _Gradients(views.size(0), len(blocks), ctx.needs_input_grad[5:])
        total = None
        size = views.size(0) * width * columns[0].element_size()
        height = max(1, block_size(BLOCK_BYTES, query.device) // size)
        for start in range(0, query.size(0), height):
            rows = slice(start, start + height)
            loss = _rows(
                grads,
                rows,
                weight[rows].view(-1, 1),
                None if scale is None else scale[rows].view(-1, 1),
                max_logit,
                query[rows],
                positive[:, rows],
                blocks,
                low,
            )
            total = _add(total, loss)
        ctx.save_for_backward(
            *(*operands, query, views), *grads.finish(place, scale is not None)
        )
        assert total is not None
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *operands, query, views, of_query, of_views = ctx.saved_tensors
        made: Iterable[Tensor | None]
        if torch.is_grad_enabled():  # For second derivatives.
            made = composed_grads(
                lambda *inputs: _composed(*operands, *inputs),
                [query, views],
                [grad],
            )
        else:
            saved = of_query, of_views
            made = (None if x is None else x * grad for x in saved)
        return None, None, None, None, None, *made


def _split(
    views: Tensor, place: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""The positives and the candidates of each view."""
    if scale is None:
        return views.index_select(1, place), views
    return views[:, : place.numel()], views[:, place.numel() :]


def _own(place: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    r"""The column of each anchor's positive in a block of sampled candidates,
    and whether it is another node's.
    """
    place = place.view(-1, 1)
    if start > 0:
        place = place - start
    column = place.clamp(0, width - 1)
    return column, column != place


def _composed(
    weight: Tensor,
    place: Tensor,
    scale: Tensor | None,
    column_weight: Tensor | None,
    query: Tensor,
    views: Tensor,
) -> Tensor:
    r"""The loss with the full matrices of cosines."""
    positive, candidates = _split(views, place, scale)
    logit = query @ candidates.transpose(1, 2)
    own = (query * positive).sum(dim=-1)
    shift = torch.maximum(logit.amax(dim=-1), own).detach()
    exp = (logit - shift.unsqueeze(-1)).exp()
    if column_weight is not None:
        exp = exp * column_weight
    if scale is None:
        norm = exp.sum(dim=-1)
    else:
        column = torch.arange(exp.size(-1), device=exp.device)
        others = exp.masked_fill(column == place.view(-1, 1), 0.0)
        norm = (own - shift).exp() + scale * others.sum(dim=-1)
    return (weight * (norm.log() + shift - own)).sum()


def _rows(
    grads: '_Gradients',
    rows: slice,
    weight: Tensor,
    scale: Tensor | None,
    max_logit: float,
    query: Tensor,
    positive: Tensor,
    blocks: Sequence[Block],
    low: torch.dtype,
) -> Tensor:
    r"""Computes the loss of a block of anchors, and adds its gradients."""
    q, views = query.to(low), range(positive.size(0))
    logit = (query * positive).sum(dim=-1, keepdim=True)
    shift = None
    if max_logit > MAX_LOGIT:
        shift = logit.to(low)
        for columns, *_ in blocks:
            peaks = [matmul(q, x.t()).amax(1, True) for x in columns]
            shift = torch.maximum(shift, torch.stack(peaks))

    def exp(view: int, block: Block) -> Tensor:
        columns, own, column_weight = block
        out = matmul(q, columns[view].t())
        if shift is not None:
            out.sub_(shift[view])
        out.exp_()
        if column_weight is not None:
            out.mul_(column_weight)
        if own is not None:
            # The sample estimates the sum over all nodes except the positive.
            column, is_other = own[0][rows], own[1][rows]
            out.scatter_(1, column, out.gather(1, column).mul_(is_other))
        return out

    # The sum of exp(logit - shift) over all nodes. A single block is kept for
    # the gradients. Several blocks are recomputed.
    norm = None
    for block in blocks:
        probs = [exp(view, block) for view in views]
        sums = torch.stack([prob.sum(dim=1, keepdim=True) for prob in probs])
        norm = _add(norm, sums.to(query.dtype))
    assert norm is not None
    pull, share = -weight, weight
    if scale is not None:
        own = (logit if shift is None else logit - shift).exp()
        norm = torch.addcmul(own, scale, norm)
        pull, share = weight * (own / norm - 1), weight * scale
    log_norm = norm.log() if shift is None else norm.log() + shift
    loss = (weight * (log_norm - logit)).sum()
    if not any(grads.needs):
        return loss

    # Scale the narrow operands instead of dividing blocks by `norm`.
    share = share / norm
    scaled = (query * share).to(low)
    grad_query = (pull * positive).sum(dim=0)
    for n, block in enumerate(blocks):
        for view in views:
            prob = probs[view] if len(blocks) == 1 else exp(view, block)
            if grads.needs[0]:
                product = matmul(prob, block[0][view])
                grad_query.addcmul_(share[view], product)
            if grads.needs[1]:
                product = matmul(scaled[view].t(), prob)
                grads.add_candidates(view, n, product.to(query.dtype))
    if grads.needs[0]:
        grads.of_query.append(grad_query)
    if grads.needs[1]:
        grads.of_positive.append(pull * query)
    return loss


class _Gradients:
    r"""Collects the gradients of anchors and views. Those of candidates are
    transposed at first, for faster products.
    """

    def __init__(
        self, num_views: int, num_blocks: int, needs: Sequence[bool]
    ) -> None:
        self.needs = needs
        self.of_query: list[Tensor] = []
        self.of_positive: list[Tensor] = []
        self.of_candidates: list[list[Tensor | None]] = [
            [None] * num_blocks for _ in range(num_views)
        ]

    def add_candidates(self, view: int, block: int, grad: Tensor) -> None:
        blocks = self.of_candidates[view]
        blocks[block] = _add(blocks[block], grad)

    def finish(
        self, place: Tensor, is_sample: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        r"""The gradients of anchors and of views."""
        of_query = _cat(self.of_query, 0) if self.needs[0] else None
        if not self.needs[1]:
            return of_query, None
        of_views = torch.stack(
            [_cat(blocks, 1).t() for blocks in self.of_candidates]
        )
        positive = _cat(self.of_positive, -2).expand(of_views.size(0), -1, -1)
        if is_sample:
            return of_query, torch.cat([positive, of_views], dim=1)
        return of_query, of_views.index_add_(1, place, positive)


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
    column_weight: Tensor | None = None,
) -> Tensor:
    r"""Computes InfoNCE of one anchor against several views in blocks of
    cosines.

    Args:
        query (torch.Tensor): The normalized anchors, divided by the
            temperature.
        views (torch.Tensor): The normalized candidates of each view. If they
            are sampled, the normalized positives of the anchors come first.
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
        - **views:** :math:`(V, N, F)`, or :math:`(V, B + S, F)`
        - **weight, place, scale:** :math:`(B)`
        - **column_weight:** :math:`(S)`
        - **output:** scalar
    """
    out: Tensor = _InfoNCE.apply(
        weight, place, scale, column_weight, max_logit, query, views
    )
    return out
