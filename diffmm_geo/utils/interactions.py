r"""What a user-item graph holds."""

from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.checks import MAX_COUNT, as_int, describe


def count_nodes(data: HeteroData, edge_type: EdgeType) -> tuple[int, int]:
    r"""The number of users and items of a graph with edges of a type."""
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
