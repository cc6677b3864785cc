"""Alternatives to `diffmm_geo.ops.spmm`. A peer builds an operand from a graph
and its edge weights, and multiplies by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import (
    WITH_TORCH_SCATTER,
    WITH_TORCH_SPARSE,
    torch_scatter,
)

from diffmm_geo.sparse import SparseMatrix

DIRECTIONS = ('forward', 'grad_x', 'grad_value')


@dataclass(frozen=True)
class Peer:
    build: Callable[[SparseMatrix, Tensor], Any]
    matmul: Callable[[Any, Tensor], Tensor]
    directions: tuple[str, ...] = DIRECTIONS
    # Whether it materializes a message per edge.
    gathers: bool = False
    # Whether the gradient of the values goes through a dense matrix.
    dense_grad: bool = False
    # On graphs with more, it takes too long.
    most_edges: float = math.inf
    cpu_only: bool = False
    half: bool = True
    # Only on request, as it takes a while to start.
    optional: bool = False
    # What is not installed, if so.
    unavailable: str = ''


def build_coo(matrix: SparseMatrix, value: Tensor) -> Tensor:
    index = matrix.pattern.edge_index.as_tensor()
    return torch.sparse_coo_tensor(
        index, value, matrix.size, is_coalesced=True, check_invariants=False
    )


def build_csr(
    matrix: SparseMatrix, value: Tensor, narrow: bool = False
) -> Tensor:
    p = matrix.pattern.narrow if narrow else matrix.pattern
    return torch.sparse_csr_tensor(
        p.rowptr, p.col, value, p.size, check_invariants=False
    )


def build_torch_sparse(matrix: SparseMatrix, value: Tensor) -> Any:
    from torch_sparse import SparseTensor

    p = matrix.pattern
    return SparseTensor(
        row=p.row,
        rowptr=p.rowptr,
        col=p.col,
        value=value,
        sparse_sizes=p.size,
        is_sorted=True,
        trust_data=True,
    )


def matmul_torch_sparse(a: Any, x: Tensor) -> Tensor:
    import torch_sparse

    return torch_sparse.matmul(a, x)


def build_scipy(matrix: SparseMatrix, value: Tensor) -> Any:
    import scipy.sparse

    p = matrix.pattern
    return scipy.sparse.csr_array(
        (value.numpy(), p.col.numpy(), p.rowptr.numpy()), shape=p.size
    )


def build_edges(matrix: SparseMatrix, value: Tensor) -> Any:
    return matrix.pattern, value


def matmul_scatter(a: Any, x: Tensor) -> Tensor:
    pattern, value = a
    message = value.view(-1, 1) * x[pattern.col]
    return torch_scatter.scatter_add(
        message, pattern.row, dim=0, dim_size=pattern.size[0]
    )


def matmul_edge_index(a: Any, x: Tensor) -> Tensor:
    pattern, value = a
    return pattern.edge_index.matmul(x, value)


def matmul_embedding_bag(a: Any, x: Tensor) -> Tensor:
    pattern, value = a
    return F.embedding_bag(
        pattern.col,
        x,
        pattern.rowptr,
        mode='sum',
        per_sample_weights=value,
        include_last_offset=True,
    )


def matmul_index_add(a: Any, x: Tensor) -> Tensor:
    pattern, value = a
    out = x.new_zeros(pattern.size[0], x.size(1))
    return out.index_add(0, pattern.row, value.view(-1, 1) * x[pattern.col])


class WeightedSum(MessagePassing):
    """The layer of PyG's tutorial."""

    def __init__(self) -> None:
        super().__init__(aggr='sum')

    def forward(self, a: Any, x: Tensor) -> Tensor:
        pattern, value = a
        n, m = pattern.size
        edge_index = torch.stack([pattern.col, pattern.row])
        return self.propagate(edge_index, x=x, weight=value, size=(m, n))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight.view(-1, 1) * x_j


PEERS: dict[str, Peer] = {
    'peer-coo': Peer(
        build_coo, torch.sparse.mm, dense_grad=True, most_edges=1e6
    ),
    'peer-csr-int32': Peer(
        partial(build_csr, narrow=True), torch.matmul, dense_grad=True
    ),
    'peer-csr-int64': Peer(build_csr, torch.matmul, dense_grad=True),
    'peer-edge-index': Peer(build_edges, matmul_edge_index),
    'peer-embedding-bag': Peer(build_edges, matmul_embedding_bag),
    'peer-pyg': Peer(build_edges, WeightedSum(), gathers=True, most_edges=1e6),
    'peer-scipy': Peer(
        build_scipy,
        lambda a, x: torch.from_numpy(a @ x.numpy()),
        directions=('forward',),
        cpu_only=True,
        half=False,  # It would compute in single precision.
    ),
    'peer-compile': Peer(
        build_edges,
        torch.compile(matmul_index_add),
        gathers=True,
        optional=True,
    ),
    'peer-torch-sparse': Peer(
        build_torch_sparse,
        matmul_torch_sparse,
        unavailable='' if WITH_TORCH_SPARSE else 'needs torch-sparse',
    ),
    'peer-scatter': Peer(
        build_edges,
        matmul_scatter,
        gathers=True,
        unavailable='' if WITH_TORCH_SCATTER else 'needs torch-scatter',
    ),
}
