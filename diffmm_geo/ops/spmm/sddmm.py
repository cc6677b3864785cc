import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .csr_tensor import csr_tensor

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
