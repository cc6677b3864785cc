from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.dense import once_differentiable
from diffmm_geo.sparse import SparseMatrix
from diffmm_geo.utils.checks import check_matrix, check_type

from .backend import Backend, HalfStep, detach
from .naive import Naive
from .registry import find_backend


def spmm(matrix: SparseMatrix, x: Tensor, backend: str | None = None) -> Tensor:
    r"""Computes :math:`\mathbf{A} \mathbf{X}`, differentiable with respect to
    :math:`\mathbf{X}` and to the values of :math:`\mathbf{A}`. The backend
    :obj:`"naive"` alone has second derivatives.

    Args:
        matrix (SparseMatrix): The sparse matrix :math:`\mathbf{A}`.
        x (torch.Tensor): The dense operand.
        backend (str, optional): The name of the backend, one of
            :meth:`~diffmm_geo.ops.available_backends`. If not given, uses the
            backend of the :meth:`~diffmm_geo.ops.backend` context if there is
            one, and the default of the device otherwise. (default: :obj:`None`)

    Shapes:
        - **matrix:** :math:`(N, M)`
        - **x:** :math:`(*, M, F)`
        - **output:** :math:`(*, N, F)`

    Raises:
        ValueError: If the rows of :obj:`x` are not the columns of
            :obj:`matrix`, or the backend is unknown or unavailable.

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
        'x', x, matrix.size[1], finite=False, leading=True, device=matrix.device
    )
    return spmm_prepared(matrix, x, backend)


def spmm_prepared(
    matrix: SparseMatrix, x: Tensor, backend: str | None = None
) -> Tensor:
    r"""Equals :func:`~diffmm_geo.ops.spmm`, without checks."""
    found = find_backend(backend, x.device, x.dtype)
    value = matrix.value
    if isinstance(found, Naive):
        return found(HalfStep(matrix.pattern, value), x)
    flat = side_by_side(x).contiguous()
    out: Tensor
    # Without gradients, skip the overhead of autograd.
    if not torch.is_grad_enabled() or not (
        x.requires_grad or (value is not None and value.requires_grad)
    ):
        out = found(HalfStep(matrix.pattern, detach(value)), detach(flat))
    else:
        out = _SpMM.apply(found, matrix, value, flat)
    return back_in_front(out, x.size())


# A graph is the same for all leading indices of its features, [*, N, F].
def side_by_side(x: Tensor) -> Tensor:
    r"""Turns leading dimensions into channels, :obj:`[N, * x F]`."""
    if x.dim() == 2:
        return x
    num_rows, num_channels = x.size()[-2:]
    x = x.reshape(prod(x.size()[:-2]), num_rows, num_channels)
    return x.transpose(0, 1).reshape(num_rows, x.size(0) * num_channels)


def back_in_front(x: Tensor, size: Sequence[int]) -> Tensor:
    r"""Inverts :meth:`side_by_side` for features that had the given size,
    except for the number of rows.
    """
    if len(size) == 2:
        return x
    *batch, _, num_channels = size
    x = x.view(x.size(0), prod(batch), num_channels).transpose(0, 1)
    return x.reshape(*batch, x.size(1), num_channels)


class _SpMM(torch.autograd.Function):
    # Both directions read a CSR form row by row. The backward pass of
    # `torch.sparse.mm` multiplies by a CSC view instead, which is about ten
    # times slower on CPU.
    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        matrix: SparseMatrix,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        ctx.backend, ctx.matrix = backend, matrix
        ctx.save_for_backward(value, x if ctx.needs_input_grad[2] else None)
        return backend(HalfStep(matrix.pattern, detach(value)), x.detach())

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[None, None, Tensor | None, Tensor | None]:
        value, x = ctx.saved_tensors
        matrix, grad = ctx.matrix, grad.contiguous()
        grad_value = grad_x = None
        if ctx.needs_input_grad[2]:
            grad_value = ctx.backend.sddmm(matrix.pattern, grad, x)
            grad_value = grad_value.to(value.dtype)
        if ctx.needs_input_grad[3]:
            half = HalfStep(matrix.pattern_t, detach(matrix.value_t))
            grad_x = ctx.backend(half, grad)
        return None, None, grad_value, grad_x
