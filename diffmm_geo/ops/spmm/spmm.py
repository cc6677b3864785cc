from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffmm_geo.utils.checks import check_matrix, check_type

from .backend import Backend
from .leading_dims import back_in_front, side_by_side
from .registry import find_backend
from .sparse_matrix import SparseMatrix


def spmm(
    matrix: SparseMatrix,
    x: Tensor,
    backend: str | None = None,
) -> Tensor:
    r"""Computes :math:`\mathbf{A} \mathbf{X}`, differentiable with respect to
    :math:`\mathbf{X}` and to the values of :math:`\mathbf{A}`.

    Args:
        matrix (SparseMatrix): The sparse matrix :math:`\mathbf{A}`.
        x (torch.Tensor): The dense operand.
        backend (str, optional): The name of the backend, one of
            :meth:`~diffmm_geo.ops.available_backends`; by default that of
            the :meth:`~diffmm_geo.ops.backend` context, or of the device.
            (default: :obj:`None`)

    Shapes:
        - **matrix:** :math:`(N, M)`
        - **x:** :math:`(*, M, F)`
        - **output:** :math:`(*, N, F)`

    Raises:
        ValueError: If the rows of :obj:`x` are not the columns of
            :obj:`matrix`, or the backend is unknown or not available.

    Example:
        >>> import torch
        >>> from diffmm_geo.ops import SparseMatrix, spmm
        >>> row, col = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])
        >>> matrix = SparseMatrix.from_coo(row, col, torch.ones(3), (2, 3))
        >>> spmm(matrix, torch.tensor([[1.0], [2.0], [4.0]]))
        tensor([[5.],
                [2.]])
        >>> spmm(matrix.t(), torch.ones(2, 1), backend='naive').size()
        torch.Size([3, 1])
    """
    check_type('matrix', matrix, SparseMatrix)
    check_matrix(
        'x',
        x,
        matrix.size[1],
        finite=False,
        leading=True,
        device=matrix.device,
    )
    found = find_backend(backend, x.device, x.dtype)
    if x.dim() == 2:
        return _spmm(found, matrix, x)
    out = _spmm(found, matrix, side_by_side(x))
    return back_in_front(out, x.size())


def _spmm(backend: Backend, matrix: SparseMatrix, x: Tensor) -> Tensor:
    value, x = matrix.value, x.contiguous()
    # What autograd does not record is not to wait for it.
    if not torch.is_grad_enabled() or not (
        x.requires_grad or (value is not None and value.requires_grad)
    ):
        return backend(matrix.pattern, detach(value), x.detach())
    out = _SpMM.apply(backend, matrix, value, x)
    assert isinstance(out, Tensor)
    return out


def detach(value: Tensor | None) -> Tensor | None:
    r"""A tensor without its history, if there is one."""
    return None if value is None else value.detach()


class _SpMM(torch.autograd.Function):
    # Both directions read the rows of a CSR form, one after the other. The
    # backward of `torch.sparse.mm`, for one, multiplies by a CSC view, which
    # is about ten times slower on CPU.
    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        matrix: SparseMatrix,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        ctx.backend, ctx.matrix = backend, matrix
        ctx.save_for_backward(x if ctx.needs_input_grad[2] else None)
        return backend(matrix.pattern, detach(value), x.detach())

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad: Tensor,
    ) -> tuple[None, None, Tensor | None, Tensor | None]:
        (x,) = ctx.saved_tensors
        matrix, grad = ctx.matrix, grad.contiguous()
        grad_value = grad_x = None
        if ctx.needs_input_grad[2]:
            grad_value = ctx.backend.sampled_product(matrix.pattern, grad, x)
            grad_value = grad_value.to(matrix.value.dtype)
        if ctx.needs_input_grad[3]:
            value_t = detach(matrix.value_t)
            grad_x = ctx.backend(matrix.pattern_t, value_t, grad)
        return None, None, grad_value, grad_x
