import numpy as np
import pytest
import torch

from diffmm_geo.datasets import _modality_files
from diffmm_geo.datasets._modality_files import read_features


@pytest.fixture
def read(tmp_path):
    def save_and_read(x, num_items=None, mapped=False):
        np.save(tmp_path / 'm_feat.npy', x)
        return read_features(str(tmp_path), ['m'], num_items, mapped)['m']

    return save_and_read


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8', '>f4', 'i4', 'b1'])
@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('mapped', [True, False])
def test_types(read, dtype, order, mapped):
    x = np.array([[0, 1, 0], [1, 0, 1]]).astype(dtype, order=order)
    out = read(x, 2, mapped)
    is_half = mapped and dtype == 'f2' and order == 'C'
    assert out.dtype == (torch.half if is_half else torch.float)
    assert out.is_contiguous()
    assert out.tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    'x, match',
    [
        (np.ones(5), r'shape \[5\]'),
        (np.ones((5, 0)), r'shape \[5, 0\]'),
        (np.ones((4, 2)), r'5 items, got shape \[4, 2\]'),
        (np.ones((5, 2), complex), 'complex128'),
        (np.full((5, 2), 'a'), 'data type <U1'),
        (np.array([[1.0, 2.0]] * 4 + [[1.0, np.nan]]), 'first in row 4'),
        (np.full((5, 2), 1e300), 'NaN or infinite values'),
    ],
)
@pytest.mark.parametrize('block_size', [2**22, 4])
def test_invalid(read, monkeypatch, x, match, block_size):
    monkeypatch.setattr(_modality_files, 'BLOCK_SIZE', block_size)
    with pytest.raises(ValueError, match=f'm_feat.npy.*{match}'):
        read(x, 5)
