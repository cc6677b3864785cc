from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..sparse_csr_warnings import silence_sparse_csr_warnings
from .blockwise import sampled_product_blockwise

if TYPE_CHECKING:
    from ..csr_pattern import CSRPattern


def sampled_product(pattern: CSRPattern, a: Tensor, b: Tensor) -> Tensor:
    r"""The entries of :math:`\mathbf{A} \mathbf{B}^{\top}` where
    :obj:`pattern` has its own, in CSR order: the gradient of a product with
    respect to the values. Half precision is summed up in single, in which
    the result is.

    Shapes:
        - **a:** :math:`(N, F)`
        - **b:** :math:`(M, F)`
        - **output:** :math:`(E)`
    """
    num_rows, num_cols = pattern.size
    # A CSR tensor is cut down to as many entries as a dense one has.
    if a.device.type != 'cpu' or pattern.nnz > num_rows * num_cols:
        return sampled_product_blockwise(pattern, a, b)
    silence_sparse_csr_warnings()
    dtype = torch.promote_types(a.dtype, torch.float)
    value = a.new_zeros(pattern.nnz, dtype=dtype)
    # Invariants hold by construction; to check them costs a pass.
    matrix = torch.sparse_csr_tensor(
        pattern.rowptr,
        pattern.col,
        value,
        pattern.size,
        check_invariants=False,
    )
    # In place, or it would copy the indices.
    torch.sparse.sampled_addmm(
        matrix, a.to(dtype), b.to(dtype).t(), beta=0.0, out=matrix
    )
    return value
