r"""Data sets in the format of the authors: TikTok, Amazon, and any folder."""

import hashlib
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from scipy import sparse

from diffmm_geo.datasets import (
    AmazonBaby,
    AmazonSports,
    DiffMMDataset,
    MMRecDataset,
    TikTok,
)
from tests.pickled_call import PickledCall

TRAIN = [[0, 0, 1, 3], [1, 3, 0, 4]]
VAL = [[0, 1], [0, 2]]
TEST = [[3], [2]]


# The raw files of the tests are not the published ones.
class Tiny(TikTok):
    checksums = {}


class TinyBaby(AmazonBaby):
    checksums = {}


def modalities_of(data):
    return [key[2:] for key in data['item'] if key.startswith('x_')]


@pytest.mark.parametrize('cls', [Tiny, TinyBaby, AmazonSports, DiffMMDataset])
def test_data(tmp_path, official_raw, cls):
    dataset = cls(tmp_path)
    assert str(dataset) == f'{cls.__name__}()' and len(dataset) == 1
    data = dataset[0]
    data.validate()
    assert data.node_types == ['user', 'item']
    assert data.edge_types == [('user', 'interacts', 'item')]
    assert data['user'].num_nodes == 4
    assert data['item'].num_nodes == 5
    store = data['user', 'interacts', 'item']
    assert store.edge_index.dtype == torch.int64
    assert store.edge_index.is_contiguous()
    assert store.edge_index.tolist() == TRAIN
    assert store.val_edge_label_index.tolist() == VAL
    assert store.test_edge_label_index.tolist() == TEST
    for name in modalities_of(data):
        x = data['item'][f'x_{name}']
        expected = np.load(official_raw / f'{name}_feat.npy')
        assert x.dtype == torch.float32
        assert torch.equal(x, torch.from_numpy(expected).float())
    assert set(modalities_of(data)) >= {'image', 'text'}


@pytest.mark.parametrize('cls', [Tiny, DiffMMDataset])
def test_modalities_share_a_root(tmp_path, official_raw, cls):
    (official_raw / 'text_feat.npy').unlink()
    for names in [['audio', 'image'], ('image',), []]:
        for _ in range(2):  # Processed, then loaded.
            data = cls(tmp_path, modalities=names)[0]
            assert {*modalities_of(data)} == {*names}
    assert len(list((tmp_path / 'processed').glob('*.pt'))) == 3
    # The order of the names does not matter.
    for names in (['audio', 'image'], ['image', 'audio']):
        data = cls(tmp_path, modalities=names)[0]
        known = cls.known_modalities or ('audio', 'image')
        assert modalities_of(data) == [m for m in known if m in names]


@pytest.mark.parametrize('modalities', [['video'], 'image', ['text', 'text']])
def test_unknown_modalities(tmp_path, modalities):
    match = r"'modalities' needs distinct names.*'image', 'text'"
    with pytest.raises(ValueError, match=match):
        TikTok(tmp_path / 'root', modalities=modalities)
    assert not (tmp_path / 'root').exists()


def test_missing_files(tmp_path, official_raw):
    (official_raw / 'valMat.pkl').unlink()
    with pytest.raises(FileNotFoundError, match=r"\['valMat.pkl'\]"):
        DiffMMDataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="'toy.inter'.*raw.*MMRec"):
        MMRecDataset(tmp_path / 'nowhere', 'toy')
    assert not (tmp_path / 'nowhere').exists()
    match = rf"'valMat.pkl'.*{official_raw}.*drive.google.com"
    with pytest.raises(FileNotFoundError, match=match):
        AmazonSports(tmp_path)


def test_pre_transform(tmp_path, official_raw):
    Tiny(tmp_path)

    def pre_transform(data):
        data['user'].x = torch.ones(4, 1)
        return data

    for transform in (pre_transform, None):
        with pytest.warns(UserWarning, match='pre_transform.*again'):
            data = Tiny(tmp_path, pre_transform=transform)[0]
        data = Tiny(tmp_path, pre_transform=transform)[0]
        assert ('x' in data['user']) == (transform is not None)


def test_download(tmp_path, official_raw, monkeypatch, serve_folder):
    server = official_raw.rename(tmp_path / 'server')
    monkeypatch.setattr(TikTok, 'url', serve_folder(server))
    with pytest.raises(ValueError, match='trnMat.pkl.*expected sha256:1ef'):
        TikTok(tmp_path)
    assert list((tmp_path / 'raw').iterdir()) == []

    names = ['trnMat.pkl', 'valMat.pkl', 'tstMat.pkl', 'image_feat.npy']
    checksums = {
        name: hashlib.sha256((server / name).read_bytes()).hexdigest()
        for name in names
    }
    monkeypatch.setattr(Tiny, 'checksums', checksums)
    data = Tiny(tmp_path, modalities=['image'])[0]
    assert data['user', 'item'].edge_index.tolist() == TRAIN
    # Nothing but what is asked for is downloaded:
    assert {path.name for path in (tmp_path / 'raw').iterdir()} == set(names)

    # Only what is missing is downloaded afterwards:
    shutil.rmtree(tmp_path / 'processed')
    (server / 'trnMat.pkl').unlink()
    data = Tiny(tmp_path, modalities=['image', 'audio'])[0]
    assert data['item'].x_audio.shape == (5, 2)


@pytest.mark.parametrize('by_hand', [False, True])
def test_zipped_features(
    tmp_path, official_raw, monkeypatch, serve_folder, by_hand
):
    folder = official_raw if by_hand else tmp_path / 'server'
    folder.mkdir(exist_ok=True)
    url = 'http://127.0.0.1:9' if by_hand else serve_folder(folder)
    monkeypatch.setattr(TinyBaby, 'url', url)
    features = official_raw / 'image_feat.npy'
    content = features.read_bytes()
    with zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w') as z:
        z.writestr('image_feat.npy', content)
    features.unlink()
    assert TinyBaby(tmp_path)[0]['item'].x_image.size() == (5, 3)
    assert features.read_bytes() == content


def test_other_raw_files_are_used_with_a_warning(tmp_path, official_raw):
    with pytest.warns(UserWarning, match='not the published dataset'):
        data = TikTok(tmp_path)[0]
    assert data['user', 'item'].edge_index.tolist() == TRAIN


@pytest.mark.parametrize(
    'name, content, match',
    [
        ('valMat.pkl', np.eye(4, 6), r'valMat.pkl.*\(4, 5\).*\(4, 6\)'),
        ('trnMat.pkl', np.zeros((4, 5)), 'expected training interactions'),
        ('image_feat.npy', np.ones((4, 3)), 'image_feat.npy.*5 items'),
    ],
)
def test_invalid_files(tmp_path, official_raw, name, content, match):
    if name.endswith('.npy'):
        np.save(official_raw / name, content)
    else:
        matrix = pickle.dumps(sparse.coo_matrix(content), protocol=3)
        (official_raw / name).write_bytes(matrix)
    with pytest.raises(ValueError, match=match):
        Tiny(tmp_path)
    assert list(tmp_path.glob('processed/*')) == []


def test_interrupted_processing(tmp_path, official_raw, monkeypatch):
    def interrupt(data, path):
        with open(path, 'wb') as f:
            f.write(b'half')
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr('torch_geometric.io.fs.torch_save', interrupt)
        with pytest.raises(KeyboardInterrupt):
            Tiny(tmp_path)
    assert list((tmp_path / 'processed').iterdir()) == []
    assert Tiny(tmp_path)[0]['user'].num_nodes == 4


@pytest.mark.parametrize(
    'content, match',
    [
        (PickledCall(os.mkdir, 'executed'), 'posix.mkdir'),
        (({'a': 1}, None, dict), 'expected a HeteroData'),
        (torch.ones(3), 'ValueError|TypeError'),
    ],
)
def test_bad_processed_file(
    tmp_path, official_raw, monkeypatch, content, match
):
    (path,) = Tiny(tmp_path).processed_paths
    torch.save(content, path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=match) as error:
        Tiny(tmp_path)
    for part in [path, "'force_reload=True'"]:
        assert part in str(error.value)
    assert not (tmp_path / 'executed').exists()
    assert Tiny(tmp_path, force_reload=True)[0]['user'].num_nodes == 4
