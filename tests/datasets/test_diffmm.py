import numpy as np
import pytest

from diffmm_geo.datasets import DiffMMDataset


def test_reads_what_is_there(tmp_path, official_raw):
    (official_raw / 'text_feat.npy').rename(official_raw / 'tags_feat.npy')
    dataset = DiffMMDataset(tmp_path)
    assert str(dataset) == 'DiffMMDataset()'
    assert dataset.modalities == ('audio', 'image', 'tags')
    data = dataset[0]
    data.validate()
    assert data['user'].num_nodes == 4 and data['item'].num_nodes == 5
    assert data['user', 'item'].edge_index.tolist() == [
        [0, 0, 1, 3],
        [1, 3, 0, 4],
    ]
    assert data['item'].x_tags.size() == (5, 4)


def test_modalities(tmp_path, official_raw):
    data = DiffMMDataset(tmp_path, modalities=['image'])[0]
    assert 'x_image' in data['item'] and 'x_text' not in data['item']
    data = DiffMMDataset(tmp_path, modalities=[])[0]
    assert not [k for k in data['item'].keys() if k.startswith('x_')]
    with pytest.raises(ValueError, match=r"\['audio', 'image', 'text'\]"):
        DiffMMDataset(tmp_path, modalities=['video'])


def test_missing_files(tmp_path, official_raw):
    (official_raw / 'valMat.pkl').unlink()
    with pytest.raises(FileNotFoundError) as error:
        DiffMMDataset(tmp_path)
    assert "['valMat.pkl']" in str(error.value)
    with pytest.raises(FileNotFoundError, match="'trnMat.pkl'"):
        DiffMMDataset(tmp_path / 'nowhere')
    assert not (tmp_path / 'nowhere').exists()


def test_invalid_files(tmp_path, official_raw):
    np.save(official_raw / 'text_feat.npy', np.ones((4, 2)))
    with pytest.raises(ValueError, match='text_feat.npy.*got shape') as error:
        DiffMMDataset(tmp_path)
    assert 'published' not in str(error.value)
    (official_raw / 'trnMat.pkl').write_bytes(b'garbage')
    with pytest.raises(ValueError, match='trnMat.pkl.*SciPy'):
        DiffMMDataset(tmp_path)
    assert not list((tmp_path / 'processed').glob('data*'))
