from collections.abc import Mapping

from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.utils.held_out import check_splits

# The attributes of training, validation and test interactions.
SPLITS = ('edge_index', 'val_edge_label_index', 'test_edge_label_index')


def user_item_data(
    num_users: int,
    num_items: int,
    features: Mapping[str, Tensor],
    edges: Mapping[str, Tensor],
) -> HeteroData:
    r"""Builds a user-item graph from features by modality and edges by key.
    Held-out edges need to differ from training edges.
    """
    check_splits({key: edges[key] for key in SPLITS if key in edges}, num_items)
    data = HeteroData()
    data['user'].num_nodes = num_users
    data['item'].num_nodes = num_items
    for modality, x in features.items():
        data['item'][f'x_{modality}'] = x
    for key, edge_index in edges.items():
        data['user', 'interacts', 'item'][key] = edge_index
    return data
