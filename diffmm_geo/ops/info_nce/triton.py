from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.dense import once_differentiable

from .blockwise import MAX_LOGIT

PRECISIONS = ('ieee', 'tf32x3', 'tf32')


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        candidates: Tensor,
        index: Tensor,
        weight: Tensor,
        online: bool,
        precision: str,
    ) -> Tensor:
        from .triton_kernels import info_nce_forward

        with torch.cuda.device_of(query):
            loss, lse = info_nce_forward(
                query, candidates, index, weight, online, precision
            )
        ctx.save_for_backward(query, candidates, index, weight, lse)
        ctx.precision = precision
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        from .triton_kernels import info_nce_backward

        query, candidates, index, weight, lse = ctx.saved_tensors
        if query.dtype == torch.half:
            # Weights are about 1 / B. Dividing by their maximum keeps
            # probabilities within the range of float16.
            peak = weight.abs().amax().clamp(min=torch.finfo().tiny)
            weight, scale = weight / peak, scale * peak
        args = query, candidates, index, weight, lse, scale, ctx.precision
        needs_query, needs_candidates = ctx.needs_input_grad[:2]
        out: list[Tensor | None] = [None] * 6
        with torch.cuda.device_of(query):
            if needs_query:
                out[0] = info_nce_backward(True, *args)
            if needs_candidates:
                out[1] = info_nce_backward(False, *args)
        return tuple(out)


def info_nce_triton(
    query: Tensor,
    candidates: Tensor,
    index: Tensor,
    weight: Tensor,
    max_logit: float,
    precision: str = 'ieee',
) -> Tensor:
    r"""Computes the InfoNCE loss of anchors against several views in one launch

    .. math::
        \mathcal{L} = \sum_{v=1}^{V} \sum_{b=1}^{B} w_b \left( \log
        \sum_{j=1}^{N} \exp(\mathbf{q}_b^{\top} \mathbf{c}_{vj}) -
        \mathbf{q}_b^{\top} \mathbf{c}_{v, \mathrm{index}_b} \right)

    without a :obj:`[B, N]` matrix: the backward pass recomputes blocks of
    logits, and normalizes them by the log-sum-exps of the forward pass.
    Results are deterministic on a device.

    Inputs are those of :func:`info_nce_blockwise` if all nodes are candidates,
    contiguous and of one type, with the positive of each anchor as
    :obj:`index`. Weights, in single precision at least, get no gradient. If
    :obj:`max_logit` exceeds :obj:`MAX_LOGIT`, exponentials are relative to a
    running maximum. :obj:`precision` is that of :func:`info_nce`.

    Shapes:
        - **query:** :math:`(B, F)`, where :math:`F \leq 512`
        - **candidates:** :math:`(V, N, F)`
        - **index:** :math:`(B)`
        - **weight:** :math:`(B)`
        - **output:** scalar, in single precision for inputs in half
    """
    if precision != 'ieee' and query.dtype != torch.float:
        raise ValueError(
            f"'precision' needs to be 'ieee' unless products are in "
            f'{torch.float} (got {precision!r} with {query.dtype})'
        )
    online = max_logit > MAX_LOGIT
    out: Tensor = _InfoNCE.apply(
        query, candidates, index.contiguous(), weight, online, precision
    )
    return out
