r"""Sparse-dense matrix multiplication :math:`\mathbf{A} \mathbf{X}`."""

from .registry import BACKENDS, available_backends, backend, default_backend
from .sparse_matrix import SparseMatrix
from .spmm import spmm

__all__ = [
    'BACKENDS',
    'SparseMatrix',
    'available_backends',
    'backend',
    'default_backend',
    'spmm',
]
