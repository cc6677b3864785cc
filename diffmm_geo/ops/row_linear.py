from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.dense import once_differentiable

# Elements per converted block: 16 MiB in float32.
BLOCK_SIZE = 2**22


class _RowLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        # Saves neither a converted copy, nor a copy of a mapped file.
        ctx.save_for_backward(x)
        ctx.has_bias = bias is not None
        out = weight.new_empty(x.size(0), weight.size(0))
        for rows in _blocks(x):
            out[rows] = F.linear(x[rows].to(weight.dtype), weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        grad_weight = grad.new_zeros(grad.size(1), x.size(1))
        for rows in _blocks(x):
            grad_weight.addmm_(grad[rows].t(), x[rows].to(grad.dtype))
        return None, grad_weight, grad.sum(dim=0) if ctx.has_bias else None


def row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Computes :math:`\mathbf{X} \mathbf{W}^{\top} + \mathbf{b}` for features
    of a smaller type than the weight, such as half precision. The forward and
    backward passes convert features in blocks of rows, without a full copy, so
    :math:`\mathbf{X}` may be a memory-mapped file. Features get no gradient.

    Shapes:
        - **x:** :math:`(N, C)`
        - **weight:** :math:`(F, C)`
        - **bias:** :math:`(F)`
        - **output:** :math:`(N, F)`, in the type of the weight
    """
    out: Tensor = _RowLinear.apply(x, weight, bias)
    return out


def _blocks(x: Tensor) -> list[slice]:
    height = max(1, BLOCK_SIZE // max(1, x.size(1)))
    return [slice(n, n + height) for n in range(0, x.size(0), height)]
