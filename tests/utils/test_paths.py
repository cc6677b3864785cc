import numpy as np
import pytest
import torch

from diffmm_geo.datasets import (
    MMRecDataset,
    load_dataset,
    load_folder,
    write_mmrec,
)
from diffmm_geo.nn import DiffMM, ModalityDiffusion
from diffmm_geo.recommender import Recommender
from diffmm_geo.training import (
    LightGCNConfig,
    LightGCNTrainer,
    save_run,
)
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


def test_saved_modules(home):
    edge_index_dict = {('user', 'interacts', 'item'): torch.tensor([[0], [1]])}
    DiffMM(3, 4, {'a': 2}, 2).save_pretrained('~/model', edge_index_dict)
    assert (home / 'model/config.json').exists()
    model = DiffMM.from_pretrained('~/model')
    assert list(model.load_graphs('~/model')) == list(edge_index_dict)
    diffusion = ModalityDiffusion(4, ['a'], hidden_channels=3)
    diffusion.save_pretrained('~/diffusion')
    ModalityDiffusion.from_pretrained('~/diffusion')


@pytest.mark.parametrize('name', ['shop.npz', 'shop.safetensors'])
def test_recommender(home, name):
    Recommender(torch.randn(3, 2), torch.randn(4, 2)).save(f'~/{name}')
    assert (home / name).exists()
    assert Recommender.load(f'~/{name}').size == (3, 4)


def test_training(home, planted):
    config = LightGCNConfig(num_epochs=1, k=2, embedding_dim=2)
    trainer = LightGCNTrainer(planted(), config)
    trainer.fit(checkpoint_dir='~/run')
    save_run(trainer, '~/run')
    names = {path.name for path in (home / 'run').iterdir()}
    assert {'last.ckpt', 'model.pt', 'metrics.json'} <= names

    LightGCNTrainer(planted(), config).fit(checkpoint_dir='~/run', resume=True)


def test_data(home, planted):
    data = planted(modalities=['image'])
    write_mmrec(data, '~/mmrec/raw', 'shop')
    MMRecDataset('~/mmrec', 'shop')
    load_dataset('shop', '~/mmrec')

    (home / 'folder').mkdir()
    edge_index = data['user', 'interacts', 'item'].edge_index
    np.save(home / 'folder/train.npy', edge_index.numpy())
    load_folder('~/folder')
    load_dataset('folder', '~/folder')


def test_command_line(home):
    parser = make_parser('', 'root', 'output', 'checkpoint-dir')
    args = parser.parse_args(['--root=~/a', '--output=~/b'])
    assert (args.root, args.output) == (f'{home}/a', f'{home}/b')
    assert args.checkpoint_dir is None


@pytest.mark.parametrize('value', [None, 3, '', b'a'])
def test_no_path(value):
    with pytest.raises(ValueError, match="'folder' needs to be a path"):
        check_path('folder', value)
