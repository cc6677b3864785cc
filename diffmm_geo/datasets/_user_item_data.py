from collections.abc import Mapping

from torch import Tensor
from torch_geometric.data import HeteroData


def user_item_data(
    num_users: int,
    num_items: int,
    features: Mapping[str, Tensor],
    edges: Mapping[str, Tensor],
) -> HeteroData:
    r"""Builds a user-item graph.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        features (dict[str, torch.Tensor]): The features of the items for each
            modality.
        edges (dict[str, torch.Tensor]): The :obj:`edge_index`, and what is
            held out.
    """
    data = HeteroData()
    data['user'].num_nodes = num_users
    data['item'].num_nodes = num_items
    for modality, x in features.items():
        data['item'][f'x_{modality}'] = x
    store = data['user', 'interacts', 'item']
    for key, edge_index in edges.items():
        store[key] = edge_index
    return data
