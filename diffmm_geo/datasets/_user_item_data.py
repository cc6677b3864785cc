from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

# The attributes of training, validation and test interactions.
SPLITS = ('edge_index', 'val_edge_label_index', 'test_edge_label_index')


def distinct_edges(user: np.ndarray, item: np.ndarray) -> Tensor:
    r"""The distinct pairs :math:`(2, |\mathcal{E}|)`, by user, then item."""
    return earliest_edges(user, item)[0]


def earliest_edges(
    user: np.ndarray, item: np.ndarray, time: np.ndarray | None = None
) -> tuple[Tensor, Tensor | None]:
    r"""The pairs of :func:`distinct_edges` and the earliest time of each."""
    edges = np.empty((2, len(user)), np.int64)
    edges[0], edges[1] = user, item
    times = None
    if time is not None:  # Copied only if an Arrow table owns the memory.
        times = torch.from_numpy(np.require(time, requirements='W'))
    out: tuple[Tensor, Tensor | None] = coalesce(
        torch.from_numpy(edges), times, reduce='min'
    )
    return out


def user_item_data(
    path: str,
    num_users: int,
    num_items: int,
    features: Mapping[str, Tensor],
    edges: Mapping[str, Tensor],
) -> HeteroData:
    r"""Builds a user-item graph from features by modality and edges by key,
    which come from a file or folder.
    """
    if edges[SPLITS[0]].size(1) == 0:
        raise ValueError(f"'{path}': expected training interactions, got none")
    data = HeteroData()
    data['user'].num_nodes = num_users
    data['item'].num_nodes = num_items
    for modality, x in features.items():
        data['item'][f'x_{modality}'] = x
    for key, edge_index in edges.items():
        data['user', 'interacts', 'item'][key] = edge_index
    return data
