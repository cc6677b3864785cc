from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern
from .sparse_csr_warnings import silence_sparse_csr_warnings


class EdgeIndexMatmul(Backend):
    r"""PyG's :meth:`torch_geometric.EdgeIndex.matmul`."""

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        silence_sparse_csr_warnings()
        out = pattern.edge_index.matmul(x, value)
        assert isinstance(out, Tensor)
        return out
