r"""Sparse-dense matrix multiplication :math:`\mathbf{A} \mathbf{X}`."""

from .registry import BACKENDS, available_backends, backend, default_backend
from .spmm import spmm, spmm_prepared

__all__ = [
    'BACKENDS',
    'available_backends',
    'backend',
    'default_backend',
    'spmm',
    'spmm_prepared',
]
