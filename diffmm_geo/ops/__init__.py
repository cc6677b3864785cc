r"""Differentiable operations. Each folder has a readable reference
(:obj:`naive.py`) beside its fast versions.
"""

from diffmm_geo.sparse import SparseMatrix as SparseMatrix

from .propagate import propagate
from .ranking import topk_items
from .spmm import available_backends, backend, default_backend, spmm

__all__ = [
    'available_backends',
    'backend',
    'default_backend',
    'propagate',
    'spmm',
    'topk_items',
]
