import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch_geometric.data import HeteroData

from diffmm_geo.datasets import MMRecDataset, write_mmrec
from tests.datasets.graphs import OBSERVED, assert_same, graphs


def small():
    data = HeteroData()
    data['user'].num_nodes = 2
    data['item'].num_nodes = 4  # The last has no interaction.
    data['item'].x_image = torch.ones(4, 3).half()
    data['item'].title = ['a', 'b', 'c', 'd']
    store = data[OBSERVED]
    store.edge_index = torch.tensor([[1, 0, 0], [0, 2, 2]])
    store.val_edge_label_index = torch.tensor([[1], [1]])
    store.test_edge_label_index = torch.tensor([[0], [1]])
    return data


@given(data=graphs(last_nodes=True))
@settings(max_examples=60, deadline=None)
def test_round_trip(data):
    with tempfile.TemporaryDirectory() as root:
        write_mmrec(data, Path(root, 'raw'), 'toy')
        assert_same(MMRecDataset(root, 'toy')[0], data)


def test_what_is_written(tmp_path):
    data = small()
    write_mmrec(data, tmp_path, 'toy')
    assert (tmp_path / 'toy.inter').read_bytes() == (
        b'userID\titemID\trating\ttimestamp\tx_label\n'
        b'1\t0\t1.0\t0\t0\n'
        b'0\t2\t1.0\t0\t0\n'
        b'0\t2\t1.0\t0\t0\n'  # As often as it is there.
        b'1\t1\t1.0\t0\t1\n'
        b'0\t1\t1.0\t0\t2\n'
    )
    x = np.load(tmp_path / 'image_feat.npy')
    assert x.dtype == np.float16 and x.shape == (4, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'image_feat.npy',
        'toy.inter',
    ]


def test_replaces_files(tmp_path, planted):
    write_mmrec(planted(num_users=8), tmp_path / 'raw', 'toy')
    data = planted()
    write_mmrec(data, tmp_path / 'raw', 'toy')
    assert_same(MMRecDataset(tmp_path, 'toy')[0], data)


def test_last_user_without_interactions(tmp_path):
    data = small()
    data['user'].num_nodes = 4
    with pytest.raises(ValueError, match='last user 3.*got 1'):
        write_mmrec(data, tmp_path / 'raw', 'toy')
    assert not (tmp_path / 'raw').exists()


def test_last_item_without_interactions_and_features(tmp_path):
    data = small()
    del data['item'].x_image
    with pytest.raises(ValueError, match='last item 3.*got 2'):
        write_mmrec(data, tmp_path / 'raw', 'toy')


@pytest.mark.parametrize('name', ['', '../toy', 'a/b', None])
def test_invalid_name(tmp_path, name):
    with pytest.raises(ValueError, match="'name' is expected"):
        write_mmrec(small(), tmp_path / 'raw', name)
    assert not (tmp_path / 'raw').exists()


@pytest.mark.parametrize(
    'name', ['../a', '.a', 'a/b', 'a\\b', 'a\nb', 'a:b', '']
)
def test_modality_that_no_file_can_be_named_after(tmp_path, name):
    data = small()
    data['item'][f'x_{name}'] = torch.ones(4, 2)
    with pytest.raises(ValueError, match="'data' is expected.*names"):
        write_mmrec(data, tmp_path / 'raw', 'toy')
    assert not (tmp_path / 'raw').exists()


@pytest.mark.parametrize(
    'name, value, match',
    [
        ('edge_index', torch.empty(2, 0).long(), "'edge_index'.*at least one"),
        ('edge_index', torch.tensor([[2], [0]]), "'edge_index'.*source"),
        ('edge_index', torch.tensor([[0], [4]]), "'edge_index'.*target"),
        ('edge_index', None, "'edge_index'"),
        ('test_edge_label_index', torch.ones(2, 1), "'test_edge_label_index'"),
    ],
)
def test_invalid_edges(tmp_path, name, value, match):
    data = small()
    del data[OBSERVED][name]
    if value is not None:
        data[OBSERVED][name] = value
    with pytest.raises(ValueError, match=match):
        write_mmrec(data, tmp_path / 'raw', 'toy')
    assert not (tmp_path / 'raw').exists()


@pytest.mark.parametrize(
    'x',
    [
        torch.ones(3, 2),
        torch.ones(4),
        torch.ones(4, 2).long(),
        torch.ones(4, 0),
        torch.ones(4, 4, 2),
        torch.full((4, 2), torch.nan),
        torch.full((4, 2), 1e300, dtype=torch.double),  # Not in 32 bits.
    ],
)
def test_invalid_features(tmp_path, x):
    data = small()
    data['item'].x_image = x
    with pytest.raises(ValueError, match="'x_image'"):
        write_mmrec(data, tmp_path / 'raw', 'toy')
    assert not (tmp_path / 'raw').exists()


def test_missing_types(tmp_path):
    data = small()
    with pytest.raises(ValueError, match="'data' needs edges of type"):
        write_mmrec(data, tmp_path, 'toy', ('user', 'buys', 'item'))
    data['user'].num_nodes = 0
    with pytest.raises(ValueError, match="'data' needs.*'user'"):
        write_mmrec(data, tmp_path, 'toy')
