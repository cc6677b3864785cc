from __future__ import annotations

from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern
from .sparse_csr_warnings import silence_sparse_csr_warnings


class EdgeIndexMatmul(Backend):
    r"""PyG's :meth:`torch_geometric.EdgeIndex.matmul`."""

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        silence_sparse_csr_warnings()
        if value is None:
            value = pattern.ones(x.dtype)
        out = pattern.edge_index.matmul(x, value)
        assert isinstance(out, Tensor)
        return out
