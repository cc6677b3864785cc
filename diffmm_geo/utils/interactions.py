r"""What a user-item graph holds."""

from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType, SparseTensor
from torch_geometric.utils import is_sparse, to_edge_index

from diffmm_geo.utils.checks import (
    MAX_COUNT,
    as_int,
    check_edge_index,
    check_type,
    describe,
)


def count_nodes(data: HeteroData, edge_type: EdgeType) -> tuple[int, int]:
    r"""The number of users and items of a graph with edges of a type."""
    check_type('data', data, HeteroData)
    if edge_type not in data.edge_types:
        raise ValueError(
            f"'data' needs edges of type {edge_type} (got {data.edge_types})"
        )
    sizes = []
    for node_type in (edge_type[0], edge_type[2]):
        num_nodes = data[node_type].num_nodes
        size = as_int(num_nodes)
        if size is None or not 0 < size <= MAX_COUNT:
            raise ValueError(
                f"'data' needs nodes of type '{node_type}', at least one and "
                f'at most {MAX_COUNT} (got {describe(num_nodes)})'
            )
        sizes.append(size)
    return sizes[0], sizes[1]


def observed_edges(store: Any, size: tuple[int, int]) -> Tensor:
    r"""The observed interactions of a store, in the :obj:`edge_index`, or in
    the :obj:`adj_t` that :class:`~torch_geometric.transforms.ToSparseTensor`
    leaves in its place.
    """
    if 'edge_index' in store or 'adj_t' not in store:
        return check_edge_index('edge_index', store.get('edge_index'), *size)
    adj = store.adj_t
    if not is_sparse(adj):
        raise ValueError(
            f"'adj_t' needs to be a SparseTensor or a torch.sparse tensor "
            f'(got {describe(adj)})'
        )
    got = adj.sizes() if isinstance(adj, SparseTensor) else list(adj.size())
    if got[:2] != [size[1], size[0]]:
        raise ValueError(
            f"'adj_t' needs to be of size [num_items, num_users] = "
            f'{[size[1], size[0]]} (got {got})'
        )
    edge_index, weight = to_edge_index(adj)
    if bool((weight != 1).any()):
        raise ValueError(
            f"'adj_t' needs interactions without weights (got weights from "
            f'{weight.min()} to {weight.max()})'
        )
    out: Tensor = edge_index.flip(0)
    return out
