import pickle
import pickletools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings

from diffmm_geo.datasets import DiffMMDataset, write_official
from tests.datasets.graphs import OBSERVED, assert_same, graphs


@given(data=graphs())
@settings(max_examples=60, deadline=None)
def test_round_trip(data):
    with tempfile.TemporaryDirectory() as root:
        write_official(data, Path(root, 'raw'))
        assert_same(DiffMMDataset(root)[0], data)


def test_pickles_load_as_the_matrices_of_the_authors_code(tmp_path, planted):
    data = planted()
    edges = data[OBSERVED].edge_index
    data[OBSERVED].edge_index = torch.cat([edges, edges[:, :5]], dim=1)
    write_official(data, tmp_path)
    for name, key in [
        ('trnMat', 'edge_index'),
        ('valMat', 'val_edge_label_index'),
        ('tstMat', 'test_edge_label_index'),
    ]:
        with open(tmp_path / f'{name}.pkl', 'rb') as f:
            matrix = pickle.load(f)
        assert type(matrix) is sp.coo_matrix
        assert matrix.shape == (32, 24) and matrix.dtype == np.float32
        # What their code and its kin do with it.
        assert len(matrix.data) == len(matrix.row) == matrix.nnz
        binary = (matrix != 0).astype(np.float32)
        for form in (matrix, binary, matrix.tocsr(), sp.coo_matrix(binary)):
            dense = form.toarray()
            pairs = torch.from_numpy(dense).nonzero().t()
            assert pairs.equal(data[OBSERVED][key].unique(dim=1))
            assert set(np.unique(dense)) == {0.0, 1.0}
        assert matrix.todok()[int(matrix.row[0]), int(matrix.col[0])] == 1.0
        assert str(matrix)  # Reads `maxprint`.


def test_pickles_name_nothing_that_only_some_versions_have(tmp_path, planted):
    write_official(planted(), tmp_path)
    content = (tmp_path / 'trnMat.pkl').read_bytes()
    texts = {
        arg for _, arg, _ in pickletools.genops(content) if type(arg) is str
    }
    assert 'scipy.sparse._coo' in texts and 'numpy' in texts
    assert not any(text.startswith('numpy.') for text in texts)
    assert 'coords' not in texts  # Since SciPy 1.13.


def test_features_keep_their_type(tmp_path, planted):
    data = planted(modalities=('image',))
    data['item'].x_image = data['item'].x_image.half()
    write_official(data, tmp_path)
    assert np.load(tmp_path / 'image_feat.npy').dtype == np.float16


def test_invalid_data(tmp_path, planted):
    data = planted()
    data['item'].x_text = torch.full((24, 2), torch.inf)
    with pytest.raises(ValueError, match="'x_text'"):
        write_official(data, tmp_path / 'raw')
    assert not (tmp_path / 'raw').exists()
