r"""Sparse-dense matrix multiplication :math:`\mathbf{A} \mathbf{X}`."""

from torch import Tensor

from .naive import spmm_naive
from .sparse_matrix import SparseMatrix
from .torch_csr import spmm_torch_csr

__all__ = ['SparseMatrix', 'spmm', 'spmm_naive', 'spmm_torch_csr']


def spmm(matrix: SparseMatrix, x: Tensor) -> Tensor:
    r"""Computes :math:`\mathbf{A} \mathbf{X}`, differentiable with respect to
    :math:`\mathbf{X}`.

    Args:
        matrix (SparseMatrix): The sparse matrix :math:`\mathbf{A}`.
        x (torch.Tensor): The dense operand.

    Shapes:
        - **matrix:** :math:`(N, M)`
        - **x:** :math:`(*, M, F)`
        - **output:** :math:`(*, N, F)`

    Raises:
        ValueError: If the rows of :obj:`x` are not the columns of
            :obj:`matrix`.
    """
    if x.size(-2) != matrix.size[1]:
        raise ValueError(
            f"'x' needs {matrix.size[1]} rows to be multiplied "
            f'by a matrix of size {list(matrix.size)} '
            f'(got shape {list(x.size())})'
        )
    if x.dim() == 2:
        return spmm_torch_csr(matrix, x)
    # Static graphs: the same matrix for every leading index of `x`, whose
    # channels are put side by side.
    batch = x.size()[:-2]
    flat = x.reshape(-1, *x.size()[-2:]).transpose(0, 1)
    out = spmm_torch_csr(matrix, flat.reshape(x.size(-2), -1))
    out = out.view(matrix.size[0], -1, x.size(-1)).transpose(0, 1)
    return out.reshape(*batch, matrix.size[0], x.size(-1))
