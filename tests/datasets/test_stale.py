r"""Processed files follow the raw files."""

import os
import warnings

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import (
    DiffMMDataset,
    MMRecDataset,
    load_dataset,
    load_folder,
    write_mmrec,
    write_official,
)
from diffmm_geo.nn import DiffMM
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from examples.command_line import DATA, load_data, make_parser

OBSERVED = ('user', 'interacts', 'item')
FORMATS = {
    'shop': lambda data, folder: write_mmrec(data, folder, 'shop'),
    'diffmm': write_official,
}
NAMES = ['all-MiniLM-L6-v2', 'v1.5', 'a+b', 'a', 'b', 'x y', 'ü%']


@pytest.fixture(params=FORMATS)
def shop(request, tmp_path, planted):
    r"""The name of a data set, its root, and what writes other raw files."""
    data = planted(modalities=['image'])

    def write(num_edges=None):
        store = data[OBSERVED]
        store.edge_index = store.edge_index[:, -(num_edges or 10**9) :]
        FORMATS[request.param](data, tmp_path / 'raw')
        return store.edge_index

    write()
    return request.param, tmp_path, write


def quiet(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return function(*args)


def processed_time(root):
    (path,) = root.glob('processed/*data*.pt')
    return path.stat().st_mtime_ns


def test_new_interactions(shop):
    name, root, write = shop
    quiet(load_dataset, name, root)
    time = quiet(processed_time, root)
    quiet(load_dataset, name, root)
    assert processed_time(root) == time

    expected = write(50)
    with pytest.warns(UserWarning, match='raw.*are processed again'):
        data = load_dataset(name, root)
    assert data[OBSERVED].edge_index.size() == expected.size()
    quiet(load_dataset, name, root)


def test_new_features_of_the_same_size(shop):
    name, root, _ = shop
    quiet(load_dataset, name, root)
    path = root / 'raw' / 'image_feat.npy'
    x = np.load(path)
    np.save(path, x + 1)
    with pytest.warns(UserWarning, match='image_feat.npy'):
        data = load_dataset(name, root)
    assert torch.equal(data['item'].x_image, torch.from_numpy(x + 1))


def test_copied_files_are_the_same(shop):
    name, root, _ = shop
    quiet(load_dataset, name, root)
    time = processed_time(root)
    for path in (root / 'raw').iterdir():
        os.utime(path, (1, 1))
    quiet(load_dataset, name, root)
    assert processed_time(root) == time


@pytest.mark.parametrize('content', [None, 'x', '[]', '{"shop.inter": 3}'])
def test_no_record(shop, content):
    name, root, _ = shop
    quiet(load_dataset, name, root)
    (record,) = root.glob('processed/*.raw.json')
    record.unlink() if content is None else record.write_text(content)
    with pytest.warns(UserWarning, match='are processed again'):
        load_dataset(name, root)
    quiet(load_dataset, name, root)


def test_reload(shop):
    name, root, _ = shop
    quiet(load_dataset, name, root)
    args = [f'--dataset={name}', f'--root={root}']
    parser = make_parser('', *DATA)
    for path in root.glob('processed/*data*.pt'):
        path.write_bytes(b'damaged')
    with pytest.raises(ValueError, match='damaged'):
        load_data(parser.parse_args(args))
    quiet(load_data, parser.parse_args([*args, '--reload']))
    quiet(load_dataset, name, root, None, True)
    with pytest.raises(ValueError, match="'force_reload' needs"):
        load_dataset(name, root, None, 1)


def test_every_modality_in_raw(tmp_path, planted):
    data = planted(modalities=['image'])
    write_mmrec(data, tmp_path / 'raw', 'shop')
    write_official(data, tmp_path / 'raw')
    features = {name: torch.rand(24, 2) for name in NAMES}
    for name, x in features.items():
        np.save(tmp_path / 'raw' / f'{name}_feat.npy', x)
    # As macOS leaves them on other disks.
    (tmp_path / 'raw/._a_feat.npy').write_bytes(b'x')
    edge_index = data[OBSERVED].edge_index.numpy()
    np.save(tmp_path / 'raw/train.npy', edge_index)
    for graph in (
        MMRecDataset(tmp_path, 'shop')[0],
        DiffMMDataset(tmp_path)[0],
        load_folder(tmp_path / 'raw'),
    ):
        there = {key[2:] for key in graph['item'] if key.startswith('x_')}
        assert there == {*NAMES, 'image'}
        for name, x in features.items():
            assert torch.equal(graph['item'][f'x_{name}'], x)
    one = MMRecDataset(tmp_path, 'shop', modalities=['a+b'])[0]
    two = MMRecDataset(tmp_path, 'shop', modalities=['a', 'b'])[0]
    assert 'x_a+b' in one['item'] and 'x_a' in two['item']


def test_training_with_such_modalities(tmp_path, planted):
    data = planted(modalities=['all-MiniLM-L6-v2', 'v1.5'])
    config = DiffMMConfig(num_epochs=1, hidden_channels=4, k=2)
    trainer = DiffMMTrainer(data, config)
    trainer.fit(checkpoint_dir=tmp_path / 'run')
    trainer.model.save_pretrained(tmp_path / 'model')
    model = DiffMM.from_pretrained(tmp_path / 'model')
    assert list(model.modalities) == ['all-MiniLM-L6-v2', 'v1.5']

    data = planted(modalities=['all-MiniLM-L6-v2'])
    write_mmrec(data, tmp_path / 'raw', 'shop')
    assert 'x_all-MiniLM-L6-v2' in load_dataset('shop', tmp_path)['item']
