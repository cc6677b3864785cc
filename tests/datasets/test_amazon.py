import zipfile

import pytest

from diffmm_geo.datasets import AmazonBaby, AmazonSports


class TinyBaby(AmazonBaby):
    # The raw files of the tests are not the published ones.
    checksums = {}


@pytest.mark.parametrize('cls', [TinyBaby, AmazonSports])
@pytest.mark.parametrize('modalities', [(), ('text',), ('image', 'text')])
def test_amazon(tmp_path, official_raw, cls, modalities):
    data = cls(tmp_path, modalities=modalities)[0]
    data.validate()
    assert data['user'].num_nodes == 4
    assert data['item'].num_nodes == 5
    store = data['user', 'interacts', 'item']
    assert store.edge_index.tolist() == [[0, 0, 1, 3], [1, 3, 0, 4]]
    assert store.val_edge_label_index.size() == (2, 2)
    assert store.test_edge_label_index.size() == (2, 1)
    keys = {key for key in data['item'] if key.startswith('x_')}
    assert keys == {f'x_{name}' for name in modalities}


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


def test_an_archive_that_is_none_is_not_kept(
    tmp_path, official_raw, monkeypatch, serve_folder
):
    server = tmp_path / 'server'
    server.mkdir()
    monkeypatch.setattr(TinyBaby, 'url', serve_folder(server))
    features = official_raw / 'image_feat.npy'
    archive = server / 'image_feat.npy.zip'
    archive.write_bytes(b'<html>')
    content = features.read_bytes()
    features.unlink()
    with pytest.raises(ValueError, match='image_feat.npy.zip.*zip archive'):
        TinyBaby(tmp_path)
    assert not (official_raw / archive.name).exists()

    with zipfile.ZipFile(archive, 'w') as z:
        z.writestr('image_feat.npy', content)
    good = archive.read_bytes()
    archive.write_bytes(good.replace(content[-5:], b'\x11' * 5))
    with pytest.raises(ValueError, match="'image_feat.npy' is damaged"):
        TinyBaby(tmp_path)
    archive.write_bytes(good)
    assert TinyBaby(tmp_path)[0]['item'].x_image.size() == (5, 3)


def test_unknown_modality(tmp_path):
    match = r"\['image', 'text'\], got \['audio'\]"
    for cls in [AmazonBaby, AmazonSports]:
        with pytest.raises(ValueError, match=match):
            cls(tmp_path, modalities=['audio'])


def test_sports_needs_files_by_hand(tmp_path, official_raw):
    (official_raw / 'image_feat.npy').unlink()
    assert AmazonSports(tmp_path, modalities=['text'])[0].num_nodes == 9
    with pytest.raises(FileNotFoundError) as error:
        AmazonSports(tmp_path)
    for part in ["['image_feat.npy']", str(official_raw), 'drive.google.com']:
        assert part in str(error.value)
