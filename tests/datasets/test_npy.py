import struct

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import _npy
from diffmm_geo.datasets._npy import load_features
from tests.pickled_call import PickledCall


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8', '>f4', 'i4', 'b1'])
@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('mapped', [True, False])
def test_load_features(tmp_path, dtype, order, mapped):
    x = np.array([[0, 1, 0], [1, 0, 1]]).astype(dtype, order=order)
    np.save(tmp_path / 'x.npy', x)
    out = load_features(str(tmp_path / 'x.npy'), 2, mapped)
    is_half = mapped and dtype == 'f2' and order == 'C'
    assert out.dtype == (torch.half if is_half else torch.float)
    assert out.is_contiguous()
    assert out.tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    'x, match',
    [
        (np.ones(5), r'shape \[5\]'),
        (np.ones((5, 0)), r'shape \[5, 0\]'),
        (np.ones((4, 2)), r'5 items, got.*shape \[4, 2\]'),
        (np.ones((5, 2, 1)), r'shape \[5, 2, 1\]'),
        (np.ones((5, 2), complex), 'complex128'),
        (np.full((5, 2), 'a'), 'data type <U1'),
        (np.array([[1.0, 2.0]] * 4 + [[1.0, np.nan]]), 'first in row 4'),
        (np.array([[np.inf, 2.0]] + [[1.0, 2.0]] * 4), 'first in row 0'),
        (np.full((5, 2), 1e300), 'NaN or infinite values'),
    ],
)
@pytest.mark.parametrize('block_size', [2**22, 4])
def test_invalid_features(tmp_path, monkeypatch, x, match, block_size):
    monkeypatch.setattr(_npy, 'BLOCK_SIZE', block_size)
    np.save(tmp_path / 'x.npy', x)
    with pytest.raises(ValueError, match=f'x.npy.*{match}'):
        load_features(str(tmp_path / 'x.npy'), num_rows=5)


def test_object_array_is_not_unpickled(tmp_path):
    victim = tmp_path / 'victim'
    x = np.array([[PickledCall(open, str(victim), 'w')]], dtype=object)
    np.save(tmp_path / 'x.npy', x, allow_pickle=True)
    with pytest.raises(ValueError, match='x.npy'):
        load_features(str(tmp_path / 'x.npy'))
    assert not victim.exists()
    np.load(tmp_path / 'x.npy', allow_pickle=True)
    assert victim.exists()  # So the above would have noticed.


@pytest.mark.parametrize(
    'shape',
    [
        *['(2**40, 1)', '(1099511627776, 1)', '(-1, -8)', '(8.0, 1)'],
        *['(4294967296, 4294967296)', '(' + '1,' * 3000 + ')'],
    ],
)
@pytest.mark.filterwarnings('ignore:overflow')
def test_shape_that_is_a_lie(tmp_path, shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    content = b'\x93NUMPY\1\0' + struct.pack('<H', len(text)) + text.encode()
    (tmp_path / 'x.npy').write_bytes(content + b'\0' * 32)
    with pytest.raises(ValueError, match='x.npy.*finite, two-dim') as error:
        load_features(str(tmp_path / 'x.npy'))
    assert len(str(error.value)) < 600


def test_truncated_garbage_and_archive(tmp_path):
    path = tmp_path / 'x.npy'
    np.save(path, np.ones((5, 2)))
    content = path.read_bytes()
    for size in [0, 5, 60, len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf'x.npy.* {size} bytes'):
            load_features(str(path))

    path.write_bytes(b'<!DOCTYPE html><html></html>')
    with pytest.raises(ValueError, match='x.npy.*pickled'):
        load_features(str(path))

    with open(path, 'wb') as f:
        np.savez(f, x=np.ones((5, 2)))
    with pytest.raises(ValueError, match='x.npy.*archive of arrays'):
        load_features(str(path))
