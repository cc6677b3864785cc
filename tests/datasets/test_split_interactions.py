import pytest
import torch
from torch_geometric.data import HeteroData

from diffmm_geo.datasets import split_interactions

OBSERVED = ('user', 'interacts', 'item')
HELD_OUT = ('val_edge_label_index', 'test_edge_label_index')


def graph(counts=(1, 2, 3, 10, 25), time=True, edge_type=OBSERVED):
    data = HeteroData()
    user, _, item = edge_type
    data[user].num_nodes, data[item].num_nodes = len(counts), max(counts)
    row = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    col = torch.cat([torch.arange(count) for count in counts])
    order = torch.randperm(row.numel())
    store = data[edge_type]
    store.edge_index = torch.stack([row, col])[:, order]
    if time:
        store.time = torch.randperm(row.numel())
    store.label = [f'{u}-{i}' for u, i in store.edge_index.t().tolist()]
    return data


def edge_set(store, *names):
    return {tuple(e) for name in names for e in store[name].t().tolist()}


@pytest.mark.parametrize('method', ['random', 'leave_one_out', 'time'])
def test_nothing_is_lost(method):
    data = graph()
    before, state = data[OBSERVED].to_dict(), torch.get_rng_state()
    out = split_interactions(data, method)
    assert data[OBSERVED].to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)
    store = out[OBSERVED]
    parts = [edge_set(store, name) for name in ('edge_index', *HELD_OUT)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 41
    assert set.union(*parts) == edge_set(data[OBSERVED], 'edge_index')
    expected = [f'{u}-{i}' for u, i in store.edge_index.t().tolist()]
    assert store.label == expected
    assert store.time.numel() == store.edge_index.size(1)


def test_at_random():
    data = graph(time=False)
    out = split_interactions(data, val=0.2, test=0.3, seed=1)[OBSERVED]
    counts = {
        name: torch.bincount(out[name][0], minlength=5).tolist()
        for name in ('edge_index', *HELD_OUT)
    }
    assert counts == {
        'edge_index': [1, 1, 1, 5, 12],
        'val_edge_label_index': [0, 0, 1, 2, 5],
        'test_edge_label_index': [0, 1, 1, 3, 8],
    }
    again = split_interactions(data, val=0.2, test=0.3, seed=1)[OBSERVED]
    other = split_interactions(data, val=0.2, test=0.3, seed=2)[OBSERVED]
    assert torch.equal(again.edge_index, out.edge_index)
    assert not torch.equal(other.edge_index, out.edge_index)

    out = split_interactions(data, 'leave_one_out')[OBSERVED]
    for name in HELD_OUT:
        assert sorted(out[name][0].tolist()) == [2, 3, 4]


@pytest.mark.parametrize('dtype', [torch.long, torch.uint8, torch.bfloat16])
def test_leave_the_last_out(dtype):
    data = graph()
    data[OBSERVED].time = data[OBSERVED].time.to(dtype)
    time = dict(zip(data[OBSERVED].label, data[OBSERVED].time.tolist()))
    out = split_interactions(data, 'leave_one_out')[OBSERVED]
    for user, number in enumerate((0, 0, 1, 1, 1)):
        train, val, test = (
            [time[f'{u}-{i}'] for u, i in edge_set(out, name) if u == user]
            for name in ('edge_index', *HELD_OUT)
        )
        assert (len(val), len(test)) == (number, number)
        if number:
            assert max(train) <= val[0] <= test[0]


def test_by_time():
    data = graph()
    time = dict(zip(data[OBSERVED].label, data[OBSERVED].time.tolist()))
    out = split_interactions(data, 'time', val=0.25, test=0.5)[OBSERVED]
    train, val, test = (
        sorted(time[f'{u}-{i}'] for u, i in edge_set(out, name))
        for name in ('edge_index', *HELD_OUT)
    )
    assert train + val + test == list(range(41))
    assert (len(val), len(test)) == (10, 21)


def test_nothing_held_out_and_other_names():
    edge_type = ('customer', 'buys', 'product')
    data = graph(edge_type=edge_type)
    out = split_interactions(data, 'time', val=0, test=0.1, edge_type=edge_type)
    assert 'val_edge_label_index' not in out[edge_type]
    assert out[edge_type].test_edge_label_index.size(1) == 4


def test_errors():
    data = graph(time=False)
    with pytest.raises(ValueError, match="'data' needs a 'time'"):
        split_interactions(data, 'time')
    with pytest.raises(ValueError, match="'test' needs"):
        split_interactions(data, val=0.5, test=0.5)
    with pytest.raises(ValueError, match='not split yet'):
        split_interactions(split_interactions(data))
    data[OBSERVED].time = torch.zeros(3)
    with pytest.raises(ValueError, match="'time' needs to be a vector"):
        split_interactions(data, 'leave_one_out')
    data = graph((1,))
    with pytest.raises(ValueError, match='to train on after the split'):
        split_interactions(data, 'time', val=0.0, test=0.9)
