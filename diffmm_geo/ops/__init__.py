r"""Differentiable operations. Each folder has a readable reference
(:obj:`naive.py`) beside its fast versions.
"""

from diffmm_geo.sparse import SparseMatrix as SparseMatrix

from .propagate import propagate
from .spmm import available_backends, backend, default_backend, spmm
from .topk import topk_items

__all__ = [
    'available_backends',
    'backend',
    'default_backend',
    'propagate',
    'spmm',
    'topk_items',
]
