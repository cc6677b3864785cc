import numpy as np
import pytest
import torch

from diffmm_geo.datasets import (
    MMRecDataset,
    load_dataset,
    load_folder,
    write_mmrec,
)
from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender
from diffmm_geo.training import LightGCNConfig, LightGCNTrainer
from diffmm_geo.utils.paths import check_path
from examples.command_line import make_parser


@pytest.fixture
def home(tmp_path, monkeypatch):
    home, here = tmp_path / 'home', tmp_path / 'here'
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.chdir(here)
    yield home
    assert not list(here.iterdir())


def test_saving(home, planted):
    edge_index_dict = {('user', 'interacts', 'item'): torch.tensor([[0], [1]])}
    model = DiffMM(3, 4, {'a': 2}, 2)
    model.save_pretrained('~/model', edge_index_dict)
    loaded = DiffMM.from_pretrained('~/model')
    assert loaded.config == model.config
    assert list(loaded.load_graphs('~/model')) == list(edge_index_dict)
    Recommender(torch.randn(3, 2), torch.randn(4, 2)).save('~/shop.npz')
    assert Recommender.load('~/shop.npz').size == (3, 4)

    config = LightGCNConfig(num_epochs=1, k=2, embedding_dim=2)
    trainer = LightGCNTrainer(planted(), config)
    trainer.fit(checkpoint_dir='~/run')
    assert (home / 'run' / 'last.ckpt').exists()
    other = LightGCNTrainer(planted(), config)
    history = other.fit(checkpoint_dir='~/run', resume=True)
    assert [r['loss'] for r in history] == [r['loss'] for r in trainer.history]


def test_data(home, planted):
    data = planted(modalities=['image'])
    write_mmrec(data, '~/mmrec/raw', 'shop')
    edge_index = data['user', 'interacts', 'item'].edge_index
    (home / 'folder').mkdir()
    np.save(home / 'folder/train.npy', edge_index.numpy())
    for out in (
        MMRecDataset('~/mmrec', 'shop')[0],
        load_dataset('shop', '~/mmrec'),
        load_folder('~/folder'),
        load_dataset('folder', '~/folder'),
    ):
        found = out['user', 'interacts', 'item'].edge_index
        assert found.unique(dim=1).equal(edge_index.unique(dim=1))


def test_arguments(home):
    parser = make_parser('', 'root', 'output', 'checkpoint-dir')
    args = parser.parse_args(['--root=~/a', '--output=~/b'])
    assert (args.root, args.output) == (f'{home}/a', f'{home}/b')
    assert args.checkpoint_dir is None
    for value in (None, 3, '', b'a'):
        with pytest.raises(ValueError, match="'folder' needs to be a path"):
            check_path('folder', value)
