r"""Graphs that a dataset may hold, and how to compare them."""

import torch
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

OBSERVED = ('user', 'interacts', 'item')
SPLITS = ('edge_index', 'val_edge_label_index', 'test_edge_label_index')
DTYPES = (torch.half, torch.bfloat16, torch.float, torch.double)


@st.composite
def graphs(draw, edge_type=OBSERVED, last_nodes=False):
    r"""Any graph with at least one training interaction, and held-out ones
    that are not all among these; with `last_nodes`, one of the last user and
    the last item.
    """
    num_users = draw(st.integers(1, 6))
    num_items = draw(st.integers(1, 7))
    pair = st.tuples(
        st.integers(0, num_users - 1), st.integers(0, num_items - 1)
    )
    user, _, item = edge_type
    data = HeteroData()
    data[user].num_nodes = num_users
    data[item].num_nodes = num_items
    for name in SPLITS:
        held_out = name != 'edge_index'
        if held_out and draw(st.booleans()):
            continue
        pairs = draw(st.lists(pair, min_size=0 if held_out else 1, max_size=9))
        if last_nodes and not held_out:
            pairs.append((num_users - 1, num_items - 1))
        if not held_out:
            observed = {*pairs}
        elif observed >= {*pairs}:
            pairs = []
        edges = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
        data[edge_type][name] = edges
    names = st.from_regex(r'\w[\w. -]{0,7}', fullmatch=True).filter(
        lambda name: name.isascii()
    )
    modalities = draw(
        st.lists(names, max_size=3, unique_by=lambda name: name.lower())
    )
    for m in modalities:
        channels = draw(st.integers(1, 3))
        x = torch.randn(num_items, channels).to(draw(st.sampled_from(DTYPES)))
        data[item][f'x_{m}'] = x
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
