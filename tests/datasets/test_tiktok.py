import hashlib
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from scipy import sparse

from diffmm_geo.datasets import TikTok
from tests.pickled_call import PickledCall

TRAIN = [[0, 0, 1, 3], [1, 3, 0, 4]]
VAL = [[0, 1], [0, 2]]
TEST = [[3], [2]]


class Tiny(TikTok):
    # The raw files of the tests are not the published ones.
    checksums = {}


def test_tiktok(tmp_path, official_raw):
    dataset = Tiny(tmp_path)
    assert str(dataset) == 'Tiny()'
    assert len(dataset) == 1
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
    for name in ['image', 'text', 'audio']:
        x = data['item'][f'x_{name}']
        expected = np.load(official_raw / f'{name}_feat.npy')
        assert x.dtype == torch.float32
        assert torch.equal(x, torch.from_numpy(expected).float())


def test_modalities_share_a_root(tmp_path, official_raw):
    (official_raw / 'text_feat.npy').unlink()
    for names in [['audio', 'image'], ('image',), []]:
        for _ in range(2):  # Processed, then loaded.
            data = Tiny(tmp_path, modalities=names)[0]
            keys = {key for key in data['item'] if key.startswith('x_')}
            assert keys == {f'x_{name}' for name in names}
    assert len(list((tmp_path / 'processed').glob('*data*.pt'))) == 3

    # The order of the names does not matter.
    data = Tiny(tmp_path, modalities=['audio', 'image'])[0]
    keys = [key for key in data['item'] if key.startswith('x_')]
    assert keys == ['x_image', 'x_audio']


@pytest.mark.parametrize(
    'modalities, match',
    [
        (['image', 'video'], r"\['image', 'text', 'audio'\], got \['video'\]"),
        ('image', 'got the string'),
        (['image', 'image'], 'each name once'),
    ],
)
def test_unknown_modalities(tmp_path, modalities, match):
    with pytest.raises(ValueError, match=match):
        TikTok(tmp_path / 'root', modalities=modalities)
    assert not (tmp_path / 'root').exists()


def test_transforms(tmp_path, official_raw):
    transform = T.Compose([T.ToUndirected()])
    data = Tiny(tmp_path, transform=transform)[0]
    assert ('item', 'rev_interacts', 'user') in data.edge_types

    def pre_transform(data):
        data['user'].x = torch.ones(4, 1)
        return data

    data = Tiny(tmp_path, pre_transform=pre_transform, force_reload=True)[0]
    assert data['user'].x.tolist() == [[1.0]] * 4


def test_download(tmp_path, official_raw, monkeypatch, serve_folder):
    server = official_raw.rename(tmp_path / 'server')
    monkeypatch.setattr(Tiny, 'url', serve_folder(server))
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


def test_download_of_another_file(
    tmp_path, official_raw, monkeypatch, serve_folder
):
    server = official_raw.rename(tmp_path / 'server')
    monkeypatch.setattr(Tiny, 'url', serve_folder(server))
    monkeypatch.setattr(Tiny, 'checksums', TikTok.checksums)
    with pytest.raises(ValueError, match='trnMat.pkl.*expected sha256:1ef'):
        Tiny(tmp_path)
    assert list((tmp_path / 'raw').iterdir()) == []

    # No checksum, but no array either:
    monkeypatch.setattr(Tiny, 'checksums', {})
    (server / 'text_feat.npy').write_text('<html>')
    with pytest.raises(ValueError, match='text_feat.npy.*numeric array'):
        Tiny(tmp_path)
    assert not (tmp_path / 'raw' / 'text_feat.npy').exists()


def test_download_without_network(tmp_path, official_raw, monkeypatch):
    monkeypatch.setattr(Tiny, 'url', 'http://127.0.0.1:9')
    (official_raw / 'text_feat.npy').unlink()
    with pytest.raises(ConnectionError) as error:
        Tiny(tmp_path)
    for part in ["'text_feat.npy'", f'{Tiny.url}/', str(official_raw)]:
        assert part in str(error.value)


def test_other_raw_files_are_used_with_a_warning(tmp_path, official_raw):
    with pytest.warns(UserWarning, match='not the published dataset'):
        data = TikTok(tmp_path)[0]
    assert data['user', 'item'].edge_index.tolist() == TRAIN


def test_truncated_raw_file(tmp_path, official_raw):
    path = official_raw / 'valMat.pkl'
    path.write_bytes(path.read_bytes()[:-20])
    match = 'valMat.pkl.*Replace the file by the published one'
    with pytest.raises(ValueError, match=match):
        Tiny(tmp_path)
    assert list((tmp_path / 'processed').glob('*data*')) == []


def test_inconsistent_raw_files(tmp_path, official_raw):
    np.save(official_raw / 'image_feat.npy', np.ones((4, 3)))
    with pytest.raises(ValueError, match='image_feat.npy.*5 items'):
        Tiny(tmp_path)

    content = pickle.dumps(sparse.coo_matrix(np.eye(4, 6)), protocol=3)
    (official_raw / 'tstMat.pkl').write_bytes(content)
    with pytest.raises(ValueError, match=r'tstMat.pkl.*\(4, 5\).*\(4, 6\)'):
        Tiny(tmp_path)


def test_no_training_interactions(tmp_path, official_raw):
    content = pickle.dumps(sparse.coo_matrix((4, 5)), protocol=3)
    (official_raw / 'trnMat.pkl').write_bytes(content)
    with pytest.raises(ValueError, match='at least one training interaction'):
        Tiny(tmp_path)


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
        (PickledCall(open, 'executed', 'w'), 'not an allowed global'),
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


def test_changed_processed_file(tmp_path, official_raw):
    (path,) = Tiny(tmp_path, modalities=['image']).processed_paths
    mapping, slices, cls = torch.load(path)
    edge_type = ('user', 'interacts', 'item')
    for store, key, value in [
        (edge_type, 'edge_index', torch.tensor([[0], [5]])),
        (edge_type, 'val_edge_label_index', torch.tensor([[4], [0]])),
        (edge_type, 'test_edge_label_index', None),
        ('item', 'x_image', torch.full((5, 3), float('nan'))),
    ]:
        data = cls.from_dict(mapping).clone()
        if value is None:
            del data[store][key]
        else:
            data[store][key] = value
        torch.save((data.to_dict(), slices, cls), path)
        with pytest.raises(ValueError, match="'force_reload=True'.*" + key):
            Tiny(tmp_path, modalities=['image'])
