from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Cosines in flight at a time: 4 MiB in float32, which stays in cache.
BLOCK_SIZE = 2**20
MAX_CANDIDATES = 2**14


# Logits up to here are exponentiated as they are: sums over 10^9 candidates
# stay far from the ends of float32.
MAX_LOGIT = 40.0


class _InfoNCE(torch.autograd.Function):
    # The loss is a scalar whose gradients scale with the incoming one. They
    # are made in the forward pass, while a block of cosines is in cache.
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        candidate: Tensor,
        index: Tensor,
        weight: Tensor,
        max_logit: float,
    ) -> Tensor:
        needs_query, needs_candidate = ctx.needs_input_grad[:2]
        needs_grad = needs_query or needs_candidate
        grad_query = torch.empty_like(query) if needs_query else None
        grad_candidate = None
        if needs_candidate:
            grad_candidate = torch.zeros_like(candidate)

        num_queries, num_candidates = query.size(0), candidate.size(0)
        width = min(num_candidates, MAX_CANDIDATES)
        height = max(1, BLOCK_SIZE // width)
        blocks = [slice(i, i + width) for i in range(0, num_candidates, width)]
        total = query.new_zeros(())
        for start in range(0, num_queries, height):
            rows = slice(start, start + height)
            q, positive = query[rows], candidate[index[rows]]
            w = weight[rows].unsqueeze(1)
            # exp(logit - shift), whose row sums are `norm`. A single block is
            # kept for the gradients, several are computed once more.
            shift = _shift(q, candidate, blocks, max_logit)
            norm = q.new_zeros(q.size(0), 1)
            for block in blocks:
                prob = _exp(q, candidate[block], shift)
                norm += prob.sum(dim=1, keepdim=True)
            log_norm = norm.log() if shift is None else norm.log() + shift
            total += (w * (log_norm - (q * positive).sum(1, True))).sum()
            if not needs_grad:
                continue

            # The division by `norm` is left to the narrow operands.
            scaled, grad_q = q * (w / norm), torch.zeros_like(q)
            for block in blocks:
                c = candidate[block]
                if len(blocks) > 1:
                    prob = _exp(q, c, shift)
                if needs_query:
                    grad_q.addmm_(prob, c)
                if grad_candidate is not None:
                    grad_candidate[block].addmm_(prob.t(), scaled)
            if grad_query is not None:
                grad_query[rows] = w * (grad_q / norm - positive)
        if grad_candidate is not None:
            query = query * weight.unsqueeze(1)
            grad_candidate.index_add_(0, index, query, alpha=-1)

        ctx.save_for_backward(grad_query, grad_candidate)
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_query, grad_candidate = ctx.saved_tensors
        return (
            None if grad_query is None else grad_query * grad,
            None if grad_candidate is None else grad_candidate * grad,
            None,
            None,
            None,
        )


def _shift(
    q: Tensor,
    candidate: Tensor,
    blocks: list[slice],
    max_logit: float,
) -> Tensor | None:
    if max_logit <= MAX_LOGIT:
        return None
    peaks = [(q @ candidate[block].t()).amax(dim=1) for block in blocks]
    return torch.stack(peaks).amax(dim=0).unsqueeze(1)


def _exp(q: Tensor, c: Tensor, shift: Tensor | None) -> Tensor:
    logits = q @ c.t()
    if shift is not None:
        logits.sub_(shift)
    return logits.exp_()


def info_nce_blockwise(
    anchor: Tensor,
    candidate: Tensor,
    index: Tensor,
    temperature: float,
) -> Tensor:
    r"""InfoNCE in blocks of cosines, never holding all of them."""
    dtype = torch.promote_types(anchor.dtype, candidate.dtype)
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
    loss = _InfoNCE.apply(
        query,
        F.normalize(candidate.to(compute), dim=-1),
        index,
        weight,
        1.0 / temperature,
    )
    return loss.to(dtype)
