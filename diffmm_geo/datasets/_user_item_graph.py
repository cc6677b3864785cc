from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.checks import (
    check_edge_index,
    check_edge_type,
    check_matrix,
    check_unweighted,
)
from diffmm_geo.utils.held_out import check_splits
from diffmm_geo.utils.interactions import count_nodes, observed_edges

from ._user_item_data import SPLITS


class UserItemGraph(NamedTuple):
    r"""The part of a graph that file formats store, with training, validation
    and test interactions :math:`(2, |\mathcal{E}|)`.
    """

    num_users: int
    num_items: int
    splits: list[np.ndarray]
    features: dict[str, np.ndarray]

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
    ) -> 'UserItemGraph':
        r"""Extracts and checks this part of a graph."""
        edge_type = check_edge_type(edge_type)
        sizes = count_nodes(data, edge_type)
        check_unweighted(edge_type, data[edge_type])

        # Held-out interactions are optional.
        store = dict.fromkeys(SPLITS[1:], torch.empty(2, 0, dtype=torch.long))
        store.update(data[edge_type].items())
        edges = {
            SPLITS[0]: observed_edges(data[edge_type], sizes),
            **{
                n: check_edge_index(n, store.get(n), *sizes) for n in SPLITS[1:]
            },
        }
        check_splits(edges, sizes[1])
        splits = [edge_index.cpu().numpy() for edge_index in edges.values()]
        if splits[0].shape[1] == 0:
            raise ValueError(
                "'edge_index' needs at least one interaction (got none)"
            )

        features = {}
        for key, x in data[edge_type[2]].items():
            if not key.startswith('x_'):
                continue
            x = check_matrix(key, x, sizes[1], finite=False).detach().cpu()
            # Readers convert to 32 bits, where large values overflow.
            check_matrix(key, x.float())
            if x.size(1) == 0:
                raise ValueError(f"'{key}' needs at least one channel")
            # NumPy has no bfloat16.
            x = x.float() if x.dtype == torch.bfloat16 else x
            features[key[2:]] = x.numpy()
        return cls(sizes[0], sizes[1], splits, features)
