from torch import Tensor

from .sparse_matrix import SparseMatrix


def spmm_naive(matrix: SparseMatrix, x: Tensor) -> Tensor:
    r"""The readable truth: gather, multiply, add up."""
    message = matrix.value.view(-1, 1) * x[matrix.col]
    out = message.new_zeros(matrix.size[0], x.size(1))
    return out.index_add(0, matrix.row, message)
