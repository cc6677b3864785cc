r"""Dense, differentiable products in the type of autocast, with the fastest
library of the CPU.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.once_differentiable import once_differentiable

# For smaller products, the overhead of oneDNN dominates.
MIN_ONEDNN_FLOPS = 1e6


def compute_dtype(x: Tensor) -> torch.dtype:
    r"""The type of products of :obj:`x`, which autocast may lower."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype == torch.float:
        return torch.get_autocast_dtype(device)
    return x.dtype


@cache
def prefers_onednn() -> bool:
    r"""Whether oneDNN is faster than MKL in single precision. MKL uses half of
    the vector width of AMD processors.
    """
    if not hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        return False
    if torch.backends.cpu.get_cpu_capability() != 'AVX512':
        return False
    return 'AMD' in torch.cpu.get_capabilities().get('cpu_name', '')


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Computes :math:`\mathbf{A} \mathbf{B} + \mathbf{b}` for matrices of the
    same type, without gradients.
    """
    flops = 2 * a.size(0) * a.size(1) * b.size(1)
    if (
        a.device.type == 'cpu'
        and a.dtype == torch.float
        and flops > MIN_ONEDNN_FLOPS
        and prefers_onednn()
    ):
        with torch.no_grad():
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                a, b.t(), bias, 'none', [], ''
            )
            return out
    return a @ b if bias is None else torch.addmm(bias, a, b)


def mul_to(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Multiplies elements and casts at once, without gradients."""
    size = torch.broadcast_shapes(a.size(), b.size())
    with torch.no_grad():
        out = torch.empty(size, dtype=dtype, device=a.device)
        return torch.mul(a, b, out=out)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return matmul(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_a = matmul(grad, b.t())
        if ctx.needs_input_grad[1]:
            grad_b = matmul(a.t(), grad)
        return grad_a, grad_b


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        w = weight.to(compute_dtype(weight))
        ctx.dtype = w.dtype
        ctx.save_for_backward(weight)
        return matmul(w.t(), w).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        both = (grad + grad.t()).to(ctx.dtype)
        return matmul(weight.to(ctx.dtype), both).to(grad.dtype)


def product(a: Tensor, b: Tensor) -> Tensor:
    r"""Computes :math:`\mathbf{A} \mathbf{B}` in the type of autocast, and
    returns it in the type of :math:`\mathbf{A}`.
    """
    dtype = compute_dtype(a)
    out: Tensor = _Product.apply(a.to(dtype), b.to(dtype))
    return out.to(a.dtype)


def gram(weight: Tensor) -> Tensor:
    r"""Computes the Gram matrix :math:`\mathbf{W}^{\top} \mathbf{W}` in the
    type of autocast. Its gradient costs one product instead of two.
    """
    out: Tensor = _Gram.apply(weight)
    return out
