r"""Differentiable operations: an op is a folder with its readable reference
(:obj:`naive.py`) beside its fast versions.
"""

from .info_nce import info_nce
from .propagate import propagate
from .spmm import (
    SparseMatrix,
    available_backends,
    backend,
    default_backend,
    spmm,
)
from .topk import topk_items

__all__ = [
    'SparseMatrix',
    'available_backends',
    'backend',
    'default_backend',
    'info_nce',
    'propagate',
    'spmm',
    'topk_items',
]
