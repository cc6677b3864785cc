from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.checks import (
    check_edge_index,
    check_edge_type,
    check_matrix,
)


class UserItemGraph(NamedTuple):
    r"""What a file format holds of a graph: its sizes, the training,
    validation and test interactions, each of shape
    :math:`[2, |\mathcal{E}|]`, and the features of the items for each
    modality.
    """

    num_users: int
    num_items: int
    splits: tuple[np.ndarray, np.ndarray, np.ndarray]
    features: dict[str, np.ndarray]

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
    ) -> 'UserItemGraph':
        r"""Reads a graph, and checks that a dataset may hold it.

        Args:
            data (HeteroData): The graph.
            edge_type (tuple[str, str, str], optional): The edge type of
                observed interactions.
                (default: :obj:`('user', 'interacts', 'item')`)
        """
        edge_type = check_edge_type(edge_type)
        if edge_type not in data.edge_types:
            raise ValueError(
                f"'data' needs edges of type {edge_type} "
                f'(got {data.edge_types})'
            )
        user, _, item = edge_type
        for node_type in (user, item):
            size = data[node_type].num_nodes
            if not isinstance(size, int) or not 0 < size < 2**31:
                raise ValueError(
                    f"'data' needs from 1 to 2^31 - 1 nodes of type "
                    f"'{node_type}' (got {size})"
                )
        num_users, num_items = data[user].num_nodes, data[item].num_nodes

        store = data[edge_type]
        splits = []
        for name in (
            'edge_index',
            'val_edge_label_index',
            'test_edge_label_index',
        ):
            # What is held out may be missing.
            edges = store.get(name)
            if edges is None and name != 'edge_index':
                edges = torch.empty(2, 0, dtype=torch.long)
            edges = check_edge_index(name, edges, num_users, num_items)
            splits.append(edges.detach().cpu().numpy())
        if splits[0].shape[1] == 0:
            raise ValueError(
                "'edge_index' needs at least one interaction (got none)"
            )

        features = {}
        for key, x in data[item].items():
            if not key.startswith('x_'):
                continue
            # Files of 64 bits are read as 32, where larger values overflow.
            x = check_matrix(key, x, num_items, finite=False).detach().cpu()
            check_matrix(key, x.float())
            if x.dim() != 2 or x.size(1) == 0:
                raise ValueError(
                    f"'{key}' needs to be of shape [num_items, channels] "
                    f'(got {list(x.size())})'
                )
            # NumPy knows no bfloat16.
            x = x.float() if x.dtype == torch.bfloat16 else x
            features[key[2:]] = x.numpy()
        return cls(
            num_users, num_items, (splits[0], splits[1], splits[2]), features
        )
