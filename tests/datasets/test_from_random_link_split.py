import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import HeteroData

from diffmm_geo.datasets import from_random_link_split

OBSERVED = ('user', 'interacts', 'item')
HELD_OUT = ('val_edge_label_index', 'test_edge_label_index')


def graph(edge_type=OBSERVED):
    data = HeteroData()
    user, _, item = edge_type
    data[user].num_nodes, data[item].num_nodes = 12, 9
    data[item].x_image = torch.randn(9, 3)
    pairs = torch.randperm(12 * 9)[:60]
    data[edge_type].edge_index = torch.stack([pairs // 9, pairs % 9])
    data[edge_type].time = torch.arange(60)
    return data


def edge_set(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'neg_sampling_ratio': 0.0},
        {'neg_sampling_ratio': 3.0},
        {'disjoint_train_ratio': 0.4},
        {'split_labels': True, 'disjoint_train_ratio': 0.4},
        {'is_undirected': False, 'rev': True},
    ],
)
def test_every_interaction_once(kwargs):
    data = graph()
    rev = [None]
    if kwargs.pop('rev', False):
        data, rev = T.ToUndirected()(data), [('item', 'rev_interacts', 'user')]
    before = data.clone()
    split = T.RandomLinkSplit(
        num_val=0.1,
        num_test=0.2,
        edge_types=[OBSERVED],
        rev_edge_types=rev,
        **kwargs,
    )
    parts = split(data)
    out = from_random_link_split(*parts, OBSERVED)
    store = out[OBSERVED]
    assert set(store.keys()) == {'edge_index', 'time', *HELD_OUT}
    sets = [edge_set(store[name]) for name in ('edge_index', *HELD_OUT)]
    assert [len(part) for part in sets] == [42, 6, 12]
    assert set.union(*sets) == edge_set(before[OBSERVED].edge_index)
    found = before[OBSERVED].edge_index[:, store.time]
    assert torch.equal(store.edge_index, found)  # Times are positions.
    assert torch.equal(out['item'].x_image, before['item'].x_image)
    assert len(out.edge_types) == len(before.edge_types)


def test_no_validation_and_other_types():
    edge_type = ('customer', 'buys', 'product')
    split = T.RandomLinkSplit(0.0, 0.2, edge_types=[edge_type])
    out = from_random_link_split(*split(graph(edge_type)), edge_type)
    assert 'val_edge_label_index' not in out[edge_type]
    assert out[edge_type].edge_index.size(1) == 48


def test_errors():
    split = T.RandomLinkSplit(0.1, 0.2, edge_types=[OBSERVED])
    train, val, test = split(graph())
    with pytest.raises(ValueError, match="'val' needs the edges and labels"):
        from_random_link_split(test, train, val)
    with pytest.raises(ValueError, match="'test' needs the edges and labels"):
        from_random_link_split(train, val, split(graph())[2])
    val[OBSERVED].edge_label = torch.ones(3)
    with pytest.raises(ValueError, match="'val.edge_label' needs"):
        from_random_link_split(train, val, test)
    del train[OBSERVED].edge_label_index
    with pytest.raises(ValueError, match='train.edge_label_index'):
        from_random_link_split(train, val, test)
