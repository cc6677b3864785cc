import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diffmm_geo.datasets import load_dataset, load_folder
from diffmm_geo.datasets.folder import load_interactions
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer

TRAIN = np.array([[0, 2, 1, 0], [3, 1, 0, 2]])
HELD_OUT = np.array([[1, 2, 1], [4, 0, 2]])


def write_parquet(path, edges, **kwargs):
    table = pa.table({'user': edges[0], 'time': edges[0], 'item': edges[1]})
    pq.write_table(table, path, **kwargs)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / 'train.npy', TRAIN)
    write_parquet(tmp_path / 'val.parquet', HELD_OUT)
    np.save(tmp_path / 'test.npy', HELD_OUT.T.astype(np.int32))
    rng = np.random.default_rng(0)
    image = rng.standard_normal((5, 8)).astype(np.float16)
    np.save(tmp_path / 'image_feat.npy', image)
    np.save(tmp_path / 'text_feat.npy', np.ones((5, 3)))
    return tmp_path


def test_load_folder(folder):
    data = load_folder(folder)
    data.validate()
    assert data['user'].num_nodes == 3 and data['item'].num_nodes == 5
    store = data['user', 'interacts', 'item']
    assert store.edge_index.tolist() == TRAIN.tolist()
    assert store.val_edge_label_index.tolist() == HELD_OUT.tolist()
    assert store.test_edge_label_index.tolist() == HELD_OUT.tolist()
    assert all(x.dtype == torch.long for x in (*store.values(),))
    assert data['item'].x_image.dtype == torch.half
    assert data['item'].x_text.dtype == torch.float

    data = load_dataset('folder', folder, ['text'])
    assert 'x_image' not in data['item']
    data = load_folder(folder, num_users=9)
    assert data['user'].num_nodes == 9


def test_files_stay_on_disk_and_as_they_are(folder):
    data = load_folder(folder)
    maps = open('/proc/self/maps').read()
    for name in ('train.npy', 'image_feat.npy'):
        assert str(folder / name) in maps
    before = (folder / 'image_feat.npy').read_bytes()
    data['item'].x_image.zero_()
    assert (folder / 'image_feat.npy').read_bytes() == before


def test_training_leaves_features_in_half_precision(folder):
    config = DiffMMConfig(num_epochs=2, hidden_channels=8, k=2, batch_size=2)
    data = load_folder(folder, ['image'])
    trainer = DiffMMTrainer(data, config)
    x = trainer.feature_dict['image']
    assert x.dtype == torch.half
    assert x.data_ptr() == data['item'].x_image.data_ptr()
    history = trainer.fit()

    data['item'].x_image = x.float()
    expected = DiffMMTrainer(data, config).fit()
    for a, b in zip(history, expected):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-4)


def test_groups_of_rows(tmp_path):
    edges = np.arange(22).reshape(2, 11)
    path = tmp_path / 'train.parquet'
    write_parquet(path, edges, row_group_size=4)
    assert load_interactions(str(path)).tolist() == edges.tolist()


@pytest.mark.parametrize(
    'edges, match',
    [
        (np.ones((2, 3)), 'got data type float64'),
        (np.ones((3, 3), int), r'got shape \[3, 3\]'),
        (np.array([[0, -1], [0, 0]]), r'got values in \[-1, 0\]'),
        (np.array([[0, 2**63], [0, 0]], np.uint64), 'got values in'),
        (np.array([['a'], ['b']], object), 'Python objects in dtype'),
        ({'user': [1]}, r"got columns \['user'\]"),
        ({'user': [1], 'item': ['a']}, "got 'item' of type string"),
        ({'user': [1.5], 'item': [1]}, "got 'user' of type double"),
        ({'user': [1, None], 'item': [1, 2]}, "missing values of 'user'"),
        ({'user': [1, -5], 'item': [1, 2]}, 'got values in'),
    ],
)
def test_invalid_interactions(tmp_path, edges, match):
    if isinstance(edges, dict):
        pq.write_table(pa.table(edges), tmp_path / 'train.parquet')
    else:
        np.save(tmp_path / 'train.npy', edges)
    with pytest.raises(ValueError, match=f'/train[.].*{match}'):
        load_folder(tmp_path)


def test_files_that_do_not_fit(folder):
    with pytest.raises(ValueError, match='image_feat.npy.*6 items'):
        load_folder(folder, num_items=6)
    with pytest.raises(ValueError, match='below 2 .users.*got 2'):
        load_folder(folder, num_users=2)
    np.save(folder / 'text_feat.npy', np.ones((4, 3)))
    with pytest.raises(ValueError, match='text_feat.npy.*5 items'):
        load_folder(folder)
    np.save(folder / 'val.npy', HELD_OUT)
    with pytest.raises(ValueError, match=r'val.parquet.*got both'):
        load_folder(folder)
    with pytest.raises(ValueError, match='expected train.npy'):
        load_folder(folder / 'none')
