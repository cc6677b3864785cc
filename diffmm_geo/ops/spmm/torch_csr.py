import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .sparse_matrix import SparseMatrix


class _SpMM(torch.autograd.Function):
    # The backward of `torch.sparse.mm` multiplies by a CSC view, which is
    # about ten times slower on CPU than the CSR form of the transpose.
    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _matmul(matrix.csr(), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _matmul(ctx.matrix.csr_t(), grad.contiguous())


def _matmul(csr: Tensor, x: Tensor) -> Tensor:
    if csr.size(0) == 0 or csr._nnz() == 0 or x.size(1) == 0:
        return x.new_zeros(csr.size(0), x.size(1))
    if x.dtype in (torch.float16, torch.bfloat16) and not x.is_cuda:
        # MKL knows single and double precision only.
        return (csr.to(torch.float) @ x.float()).to(x.dtype)
    return csr @ x


def spmm_torch_csr(matrix: SparseMatrix, x: Tensor) -> Tensor:
    r"""Multiplication through :obj:`torch.sparse_csr`: MKL on CPU, cuSPARSE
    on GPU.
    """
    if matrix.value.dtype != x.dtype:
        matrix = matrix.to(dtype=x.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*Sparse CSR tensor support.*')
        warnings.filterwarnings('ignore', '.*Sparse invariant checks.*')
        return _SpMM.apply(matrix, x.contiguous())
