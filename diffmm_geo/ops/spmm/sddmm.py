import warnings
from functools import cache

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

# Gathered elements in flight at a time.
BLOCK_SIZE = 2**22


def sddmm(pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
    r"""Sampled dense-dense matrix multiplication: the entries of
    :math:`\mathbf{A} \mathbf{B}^{\top}` at those of :obj:`pattern`, which is
    the gradient of a sparse-dense product with respect to the values. Half
    precision is accumulated and returned in single precision.

    Shapes:
        - **a:** :math:`(N, F)`
        - **b:** :math:`(M, F)`
        - **output:** :math:`(E)`, in CSR order
    """
    # PyTorch truncates CSR tensors with more entries than a dense matrix.
    if (
        a.device.type != 'cpu'
        or pattern.nnz > pattern.size[0] * pattern.size[1]
    ):
        return sddmm_blockwise(pattern, a, b)
    dtype = torch.promote_types(a.dtype, torch.float)
    value = a.new_zeros(pattern.nnz, dtype=dtype)
    matrix = csr_tensor(pattern, value)
    # Writing in place avoids a copy of the indices.
    torch.sparse.sampled_addmm(
        matrix, a.to(dtype), b.to(dtype).t(), beta=0.0, out=matrix
    )
    return value


def sddmm_blockwise(pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
    r"""Computes :meth:`sddmm` by its formula, in blocks of entries."""
    row, col = pattern.row, pattern.col
    block = max(1, BLOCK_SIZE // max(1, a.size(1)))
    dtype = torch.promote_types(a.dtype, torch.float)
    return torch.cat(
        [
            torch.linalg.vecdot(
                a[row[i : i + block]].to(dtype), b[col[i : i + block]].to(dtype)
            )
            for i in range(0, max(1, col.numel()), block)
        ]
    )


def csr_tensor(pattern: CSR, value: Tensor) -> Tensor:
    r"""The :obj:`torch.sparse_csr` tensor with the given values, and indices
    of 32 bits where they fit. MKL would convert those of 64 bits in each
    product, and cuSPARSE would read twice as many bytes.
    """
    silence_sparse_csr_warnings()
    index = pattern.narrow
    # Invariants hold by construction; checking them costs a pass.
    return torch.sparse_csr_tensor(
        index.rowptr, index.col, value, pattern.size, check_invariants=False
    )


@cache
def silence_sparse_csr_warnings() -> None:
    r"""Triggers PyTorch's once-per-process warnings about sparse CSR tensors
    (their beta state and unchecked invariants) without showing them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*Sparse CSR tensor support.*')
        warnings.filterwarnings('ignore', '.*Sparse invariant checks.*')
        index = torch.zeros(2, dtype=torch.long)
        torch.sparse_csr_tensor(index, index[:0], torch.zeros(0), (1, 1))
