r"""Dense operations with gradients of their own, in the type of autocast and
with the fastest library of the CPU, and what fast operations share.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

# For smaller products, the overhead of oneDNN dominates.
MIN_ONEDNN_FLOPS = 1e6
# Untimed: enough rows to keep all multiprocessors of a large GPU busy.
GPU_FACTOR = 32

T = TypeVar('T')


def once_differentiable(backward: Callable[..., T]) -> Callable[..., T]:
    r"""Decorates the backward pass of a fast form without a derivative of its
    own, and raises an error if there would have to be one. PyTorch's decorator
    of this name does so only if incoming gradients have a history, and drops
    terms of second derivatives otherwise.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> T:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a fast operation has no second derivative, as 'create_graph="
                "True' needs: the naive form has, e.g., under "
                "diffmm_geo.ops.backend('naive')"
            )
        return backward(ctx, *grads)

    return checked


def block_size(size: int, device: torch.device) -> int:
    r"""The number of elements per block: :obj:`size` on a CPU, whose cache
    must hold them, and 32 times as many on a GPU, to keep it busy.
    """
    return size if device.type == 'cpu' else GPU_FACTOR * size


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


class _UnitRows(torch.autograd.Function):
    # Autograd would take sixteen operations for the gradient.
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        norm = norm.clamp_min_(bound)
        out = x / norm
        ctx.bound = bound
        ctx.set_materialize_grads(False)
        # As outputs, both have derivatives themselves.
        ctx.save_for_backward(out, norm)
        return out, norm

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_norm: Tensor | None
    ) -> tuple[Tensor | None, None]:
        out, norm = ctx.saved_tensors
        if grad is None:  # The norm alone has a gradient, in a derivative.
            grad = torch.zeros_like(out)
        grad = grad / norm
        along = (grad * out).sum(dim=-1, keepdim=True)
        if grad_norm is not None:
            along = along - grad_norm
        # Rows shorter than the bound are divided by a constant.
        along = torch.ops.aten.threshold_backward(along, norm, ctx.bound)
        return torch.addcmul(grad, out, along, value=-1), None


def unit_rows(x: Tensor) -> Tensor:
    r"""Normalizes rows to unit length, and leaves rows of zeros unchanged."""
    # The default bound of PyTorch rounds to zero in half precision.
    bound = max(1e-12, torch.finfo(x.dtype).tiny)
    out: Tensor = _UnitRows.apply(x, bound)[0]
    return out
