r"""Datasets by name, whose processed files follow the raw files."""

import warnings

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import (
    MMRecDataset,
    load_dataset,
    load_folder,
    write_mmrec,
)
from examples.command_line import DATA, load_data, make_parser
from tests.datasets.graphs import OBSERVED, SPLITS

NAMES = ['all-MiniLM-L6-v2', 'v1.5', 'a+b', 'a', 'b', 'x y', 'ü%']


@pytest.fixture
def data(planted):
    return planted(modalities=['image'])


@pytest.fixture
def root(tmp_path, data):
    write_mmrec(data, tmp_path / 'raw', 'shop')
    return tmp_path


def load_quietly(root, *args):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return load_dataset('shop', root, *args)


def test_new_raw_files(root, data):
    load_quietly(root)
    (path,) = root.glob('processed/*.pt')
    time = path.stat().st_mtime_ns
    load_quietly(root)
    assert path.stat().st_mtime_ns == time

    store = data[OBSERVED]
    store.edge_index = store.edge_index[:, -50:]
    write_mmrec(data, root / 'raw', 'shop')
    with pytest.warns(UserWarning, match='shop.inter.*is processed again'):
        found = load_dataset('shop', root)
    assert found[OBSERVED].edge_index.size(1) == 50
    load_quietly(root)

    # Of the same size.
    x = np.load(root / 'raw' / 'image_feat.npy')
    np.save(root / 'raw' / 'image_feat.npy', x + 1)
    with pytest.warns(UserWarning, match='image_feat.npy'):
        found = load_dataset('shop', root)
    assert torch.equal(found['item'].x_image, torch.from_numpy(x + 1))


@pytest.mark.parametrize('content', [None, 'x', '[]', '{"shop.inter": 3}'])
def test_no_record(root, content):
    load_quietly(root)
    (record,) = root.glob('processed/*.json')
    record.unlink() if content is None else record.write_text(content)
    with pytest.warns(UserWarning, match='is processed again'):
        load_dataset('shop', root)
    load_quietly(root)


def test_reload(root):
    load_quietly(root)
    args = ['--dataset=shop', f'--root={root}']
    parser = make_parser('', *DATA)
    for path in root.glob('processed/*.pt'):
        path.write_bytes(b'damaged')
    with pytest.raises(ValueError, match='damaged'):
        load_data(parser.parse_args(args))
    load_data(parser.parse_args([*args, '--reload']))
    load_quietly(root, None, True)


def test_every_modality_in_raw(root, data):
    for path in root.glob('raw/*_feat.npy'):
        path.unlink()
    features = {name: torch.rand(24, 2) for name in NAMES}
    for name, x in features.items():
        np.save(root / 'raw' / f'{name}_feat.npy', x)
    # As macOS leaves them on other disks.
    (root / 'raw/._a_feat.npy').write_bytes(b'x')
    np.save(root / 'raw/train.npy', data[OBSERVED].edge_index.numpy())
    for graph in (load_quietly(root), load_folder(root / 'raw')):
        there = {key[2:] for key in graph['item'] if key.startswith('x_')}
        assert there == {*NAMES}
        for name, x in features.items():
            assert torch.equal(graph['item'][f'x_{name}'], x)
    one = MMRecDataset(root, 'shop', modalities=['a+b'])[0]
    two = load_quietly(root, ['a', 'b'])
    assert 'x_a+b' in one['item'] and 'x_a' in two['item']


@pytest.mark.parametrize('name', ['toy', 'folder'])
def test_cold_users(tmp_path, data, name):
    store = data[OBSERVED]
    store.edge_index = store.edge_index[:, store.edge_index[0] != 3]
    if name == 'folder':
        for split, key in zip(('train', 'val', 'test'), SPLITS):
            np.save(tmp_path / f'{split}.npy', store[key].numpy())
    else:
        write_mmrec(data, tmp_path / 'raw', name)
    kept = load_dataset(name, tmp_path)[OBSERVED]
    out = load_dataset(name, tmp_path, drop_cold_users=True)
    assert out['user'].num_nodes == data['user'].num_nodes
    assert out[OBSERVED].edge_index.equal(kept.edge_index)
    for key in SPLITS[1:]:
        assert (kept[key][0] == 3).sum() == 1
        assert out[OBSERVED][key].equal(kept[key][:, kept[key][0] != 3])


@pytest.mark.parametrize(
    ('name', 'kwargs', 'match'),
    [
        ('shop', {'drop_cold_users': 'yes'}, "'drop_cold_users'"),
        ('shop', {'force_reload': 1}, "'force_reload' needs"),
        ('tictok', {}, r"'name'.*'tiktok'.*'tictok'"),
    ],
)
def test_invalid_arguments(root, name, kwargs, match):
    with pytest.raises(ValueError, match=match):
        load_dataset(name, root, **kwargs)
