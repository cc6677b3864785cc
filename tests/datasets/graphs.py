r"""Graphs that a dataset may hold, and how to compare them."""

import torch
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

OBSERVED = ('user', 'interacts', 'item')
SPLITS = ('edge_index', 'val_edge_label_index', 'test_edge_label_index')
DTYPES = (torch.half, torch.bfloat16, torch.float, torch.double)


@st.composite
def graphs(draw):
    r"""Any graph with a training interaction of the last user and the last
    item.
    """
    num_users = draw(st.integers(1, 6))
    num_items = draw(st.integers(1, 7))
    pair = st.tuples(
        st.integers(0, num_users - 1), st.integers(0, num_items - 1)
    )
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
    for name in SPLITS:
        pairs = draw(st.lists(pair, max_size=9))
        if name == 'edge_index':
            pairs.append((num_users - 1, num_items - 1))
        elif draw(st.booleans()):
            continue
        edges = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
        data[OBSERVED][name] = edges
    names = st.from_regex(r'\w[\w. -]{0,7}', fullmatch=True).filter(
        lambda name: name.isascii()
    )
    modalities = draw(
        st.lists(names, max_size=3, unique_by=lambda name: name.lower())
    )
    for m in modalities:
        channels = draw(st.integers(1, 3))
        x = torch.randn(num_items, channels).to(draw(st.sampled_from(DTYPES)))
        data['item'][f'x_{m}'] = x
    return data


def assert_same(read, data, edge_type=OBSERVED):
    r"""`read` is what a file of `data` gives: interactions sorted and
    distinct, features in single precision.
    """
    user, _, item = edge_type
    assert read['user'].num_nodes == data[user].num_nodes
    assert read['item'].num_nodes == data[item].num_nodes
    for name in SPLITS:
        expected = data[edge_type].get(name, torch.empty(2, 0).long())
        assert read[OBSERVED][name].equal(expected.unique(dim=1))
    features = {k: x for k, x in data[item].items() if k.startswith('x_')}
    read_keys = {k for k in read['item'].keys() if k.startswith('x_')}
    assert read_keys == set(features)
    for key, x in features.items():
        assert read['item'][key].equal(x.float())
