r"""MMRec's format, as it is read and written."""

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

HEADER = 'userID\titemID\trating\ttimestamp\tx_label'
ROWS = [
    '1\t3\t5.0\t100\t0',
    '0\t1\t5.0\t100\t0',
    '0\t1\t5.0\t101\t0',
    '0\t2\t4.0\t102\t1',
    '2\t0\t1.0\t103\t2',
]
OTHER_COLUMNS = {
    'header': 'x_label\textra\titemID\tuserID',
    'rows': ['0\ta b\t3\t1', '1\t\t2\t0', '2\tc\t0\t2', '0\td\t1\t0'],
}


def write(tmp_path, rows=ROWS, header=HEADER, end='\n', **features):
    raw = tmp_path / 'raw'
    raw.mkdir(exist_ok=True)
    content = end.join([header, *rows, ''])
    (raw / 'toy.inter').write_bytes(content.encode())
    for name, x in features.items():
        np.save(raw / f'{name}_feat.npy', x)


@pytest.mark.parametrize('form', [{}, {'end': '\r\n'}, OTHER_COLUMNS])
def test_read(tmp_path, form):
    image = np.random.RandomState(0).standard_normal((6, 3))
    write(tmp_path, **form, image=image, text=np.ones((6, 2)))
    dataset = MMRecDataset(tmp_path, 'toy')
    assert str(dataset) == 'MMRecDataset(toy)'
    data = dataset[0]
    data.validate()
    assert data['user'].num_nodes == 3
    assert data['item'].num_nodes == 6  # The rows of the features.
    store = data[OBSERVED]
    assert store.edge_index.tolist() == [[0, 1], [1, 3]]
    assert store.val_edge_label_index.tolist() == [[0], [2]]
    assert store.test_edge_label_index.tolist() == [[2], [0]]
    assert torch.equal(data['item'].x_image, torch.from_numpy(image).float())
    assert data['item'].x_text.size() == (6, 2)

    data = MMRecDataset(tmp_path, 'toy', modalities=['text'])[0]
    assert 'x_text' in data['item'] and 'x_image' not in data['item']
    data = MMRecDataset(tmp_path, 'toy', modalities=[])[0]
    assert data['item'].num_nodes == 4  # The largest item plus one.


@pytest.mark.parametrize(
    'changes, match',
    [
        ({'header': HEADER.replace('itemID', 'x')}, "columns .*'itemID'"),
        ({'rows': [*ROWS, '0\t1\t5.0\t1\t3']}, "'x_label' up to 2, got 3"),
        ({'rows': [*ROWS, '0\t1\t5.0\t1\t0.0']}, "Row #7.*value '0.0'"),
        ({'rows': [*ROWS, '0\t-1\t5.0\t1\t0']}, "Row #7.*value '-1'"),
        ({'rows': [*ROWS, '0\t2147483647\t5\t1\t0']}, "'itemID' up to"),
        ({'rows': [*ROWS, '0\t1\t5.0']}, 'Row #7: Expected 5 columns, got 3'),
        ({'rows': ROWS[3:]}, 'expected training interactions, got none'),
        ({'image': np.ones((3, 2))}, 'features of the 4 items.*got 3'),
        (
            {'image': np.ones((4, 2)), 'text': np.ones((5, 2))},
            r'text_feat.*4 items, got shape \[5, 2\]',
        ),
    ],
)
def test_invalid_files(tmp_path, changes, match):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=f'{tmp_path}/raw.*{match}'):
        MMRecDataset(tmp_path, 'toy')
    assert not list((tmp_path / 'processed').glob('*'))


@given(data=graphs())
@settings(max_examples=60, deadline=None)
def test_round_trip(data):
    with tempfile.TemporaryDirectory() as root:
        write_mmrec(data, Path(root, 'raw'), 'toy')
        assert_same(MMRecDataset(root, 'toy')[0], data)


def test_round_trip_of_other_names_and_sparse_graphs(tmp_path, planted):
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type, modalities=('é',))
    sparse = T.ToSparseTensor()(data.clone())
    write_mmrec(sparse, tmp_path / 'raw', 'toy', edge_type)
    assert_same(MMRecDataset(tmp_path, 'toy')[0], data, edge_type)


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
        (without_features, 'last item 3.*got 2'),
        (with_edges('edge_index', torch.empty(2, 0).long()), "'edge_index'"),
        (with_edges('edge_index', torch.tensor([[0], [4]])), 'target'),
        (with_edges('val_edge_label_index', torch.ones(2, 1)), "'val_edge"),
        (with_edges('edge_weight', torch.ones(3)), "'edge_weight'"),
        (with_features(torch.full((4, 2), torch.nan)), "'x_image'"),
        (with_features(torch.full((4, 2), 1e300, dtype=torch.double)), "'x_im"),
        *[
            (with_features(torch.ones(4, 2), name), "'data' needs modality")
            for name in ('../a', '.a', 'a/b', 'a\\b', 'a\nb', 'a:b', '')
        ],
    ],
)
def test_graphs_that_the_format_cannot_hold(tmp_path, change, match):
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


def test_all_or_nothing_is_written(tmp_path, planted, monkeypatch):
    raw = tmp_path / 'raw'
    write_mmrec(planted(modalities=('image', 'audio')), raw, 'toy')
    before = contents(raw)
    with pytest.raises(FileExistsError, match='audio_feat.npy'):
        write_mmrec(planted(modalities=('image', 'text')), raw, 'toy')

    def fail(*args, **kwargs):
        raise OSError('disk full')

    data = planted(num_users=8, modalities=('image', 'audio'))
    with monkeypatch.context() as context:
        context.setattr(np, 'save', fail)
        with pytest.raises(OSError, match='disk full'):
            write_mmrec(data, raw, 'toy')
    assert contents(raw) == before
    write_mmrec(data, raw, 'toy')
    assert_same(MMRecDataset(tmp_path, 'toy')[0], data)
