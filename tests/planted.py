import torch
from torch_geometric.data import HeteroData


def planted(
    num_users=32,
    num_items=24,
    num_communities=4,
    num_train=3,
    edge_type=('user', 'interacts', 'item'),
    modalities=('image', 'text'),
):
    r"""A graph of communities. Users only interact with items of their
    community, which features identify.
    """
    generator = torch.Generator().manual_seed(1)
    ends, splits = (
        [0, num_train, num_train + 1, num_train + 2],
        [[], [], []],
    )
    for user in range(num_users):
        community = user % num_communities
        items = torch.arange(community, num_items, num_communities)
        items = items[torch.randperm(items.numel(), generator=generator)]
        for split, begin, end in zip(splits, ends, ends[1:]):
            split += [(user, item) for item in items[begin:end].tolist()]

    data, (user, _, item) = HeteroData(), edge_type
    data[user].num_nodes, data[item].num_nodes = num_users, num_items
    community = torch.arange(num_items) % num_communities
    for channels, m in enumerate(modalities, start=num_communities):
        noise = torch.randn(num_items, channels, generator=generator)
        x = torch.nn.functional.one_hot(community, channels) + 0.1 * noise
        data[item][f'x_{m}'] = x
    names = 'edge_index', 'val_edge_label_index', 'test_edge_label_index'
    for name, split in zip(names, splits):
        edge_index = torch.tensor(split).view(-1, 2).long().t()
        data[edge_type][name] = edge_index.contiguous()
    return data
