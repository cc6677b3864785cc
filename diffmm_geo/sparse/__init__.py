r"""Sparse graph structures that layers, losses and operations take."""

from .bipartite_adj import BipartiteAdj
from .csr import CSR
from .sparse_matrix import SparseMatrix

__all__ = ['CSR', 'BipartiteAdj', 'SparseMatrix']
