import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
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


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(data=graphs(last_nodes=True))
@settings(max_examples=60, deadline=None)
def test_round_trip(data):
    with tempfile.TemporaryDirectory() as root:
        write_mmrec(data, Path(root, 'raw'), 'toy')
        assert_same(MMRecDataset(root, 'toy')[0], data)


@pytest.mark.parametrize('modality', ['all-MiniLM-L6-v2', 'v1.5', 'a b', 'é'])
def test_round_trip_of_other_names(tmp_path, planted, modality):
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type, modalities=(modality,))
    write_mmrec(data, tmp_path / 'raw', 'toy', edge_type)
    dataset = MMRecDataset(tmp_path, 'toy', [modality])
    assert_same(dataset[0], data, edge_type)


def test_what_is_written(tmp_path):
    write_mmrec(small(), tmp_path, 'toy')
    found = contents(tmp_path)
    assert found.keys() == {'toy.inter', 'image_feat.npy'}
    assert found['toy.inter'] == (
        b'userID\titemID\trating\ttimestamp\tx_label\n'
        b'1\t0\t1.0\t0\t0\n'
        b'0\t2\t1.0\t0\t0\n'
        b'0\t2\t1.0\t0\t0\n'  # As often as it is there.
        b'1\t1\t1.0\t0\t1\n'
        b'0\t1\t1.0\t0\t2\n'
    )
    x = np.load(tmp_path / 'image_feat.npy')
    assert x.dtype == np.float16 and x.shape == (4, 3)


def without_features(data):
    del data['item'].x_image


def with_edges(name, value):
    return lambda data: data[OBSERVED].update({name: value})


def with_features(x, name='image'):
    return lambda data: data['item'].update({f'x_{name}': x})


@pytest.mark.parametrize(
    'change, match',
    [
        (lambda data: data['user'].update({'num_nodes': 4}), 'last user 3'),
        (lambda data: data['user'].update({'num_nodes': 0}), "'user'"),
        (without_features, 'last item 3.*got 2'),
        (with_edges('edge_index', torch.empty(2, 0).long()), "'edge_index'"),
        (with_edges('edge_index', torch.tensor([[2], [0]])), 'source'),
        (with_edges('edge_index', torch.tensor([[0], [4]])), 'target'),
        (with_edges('val_edge_label_index', torch.ones(2, 1)), "'val_edge"),
        (with_edges('edge_weight', torch.ones(3)), "'edge_weight'"),
        (with_features(torch.ones(3, 2)), "'x_image'"),
        (with_features(torch.ones(4, 2).long()), "'x_image'"),
        (with_features(torch.full((4, 2), torch.nan)), "'x_image'"),
        (with_features(torch.full((4, 2), 1e300, dtype=torch.double)), "'x_im"),
        *[
            (with_features(torch.ones(4, 2), name), "'data' needs modality")
            for name in ('../a', '.a', 'a/b', 'a\\b', 'a\nb', 'a:b', '')
        ],
    ],
)
def test_invalid_graph(tmp_path, change, match):
    data = small()
    change(data)
    with pytest.raises(ValueError, match=match):
        write_mmrec(data, tmp_path / 'raw', 'toy')
    assert not (tmp_path / 'raw').exists()


@pytest.mark.parametrize('name', ['', '../toy', 'a/b', 'a+b', None])
def test_invalid_name(tmp_path, name):
    with pytest.raises(ValueError, match="'name' needs"):
        write_mmrec(small(), tmp_path / 'raw', name)
    with pytest.raises(ValueError, match="'name' needs"):
        MMRecDataset(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_sparse_graph(tmp_path, planted):
    write_mmrec(T.ToSparseTensor()(planted()), tmp_path / 'raw', 'toy')
    assert_same(MMRecDataset(tmp_path, 'toy')[0], planted())


def test_features_of_another_modality_are_in_the_way(tmp_path, planted):
    write_mmrec(planted(modalities=('image', 'audio')), tmp_path, 'toy')
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match='audio_feat.npy'):
        write_mmrec(planted(modalities=('image', 'text')), tmp_path, 'toy')
    assert contents(tmp_path) == before


def test_nothing_half_written(tmp_path, planted, monkeypatch):
    write_mmrec(planted(), tmp_path / 'raw', 'toy')
    before = contents(tmp_path / 'raw')

    def fail(*args, **kwargs):
        raise OSError('disk full')

    with monkeypatch.context() as context:
        context.setattr(np, 'save', fail)
        with pytest.raises(OSError, match='disk full'):
            write_mmrec(planted(num_users=8), tmp_path / 'raw', 'toy')
    assert contents(tmp_path / 'raw') == before
    write_mmrec(planted(num_users=8), tmp_path / 'raw', 'toy')
    assert_same(MMRecDataset(tmp_path, 'toy')[0], planted(num_users=8))
