import struct
import warnings

import numpy as np
import pytest
import torch

from diffmm_geo.datasets._npy import load_features


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8', '>f4', 'i4', 'b1'])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_load_features(tmp_path, dtype, order):
    x = np.array([[0, 1, 0], [1, 0, 1]]).astype(dtype, order=order)
    np.save(tmp_path / 'x.npy', x)
    out = load_features(str(tmp_path / 'x.npy'), num_rows=2)
    assert out.dtype == torch.float32
    assert out.tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    'x, match',
    [
        (np.ones(5), r'got shape \[5\]'),
        (np.ones((5, 0)), 'got'),
        (np.ones((4, 2)), r'5 items, got shape \[4, 2\]'),
        (np.ones((5, 2, 1)), r'got shape \[5, 2, 1\]'),
        (np.ones((5, 2), complex), 'complex128'),
        (np.full((5, 2), 'a'), 'data type <U1'),
        (np.array([[1.0, 2.0]] * 4 + [[1.0, np.nan]]), 'the first is row 4'),
        (np.array([[np.inf, 2.0]] + [[1.0, 2.0]] * 4), 'the first is row 0'),
        (np.full((5, 2), 1e300), 'NaN or infinite values in 5 rows'),
    ],
)
def test_invalid_features(tmp_path, x, match):
    np.save(tmp_path / 'x.npy', x)
    with pytest.raises(ValueError, match=f'x.npy.*{match}'):
        load_features(str(tmp_path / 'x.npy'), num_rows=5)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def test_object_array_is_not_unpickled(tmp_path):
    victim = tmp_path / 'victim'
    x = np.array([[Hostile(str(victim))]], dtype=object)
    np.save(tmp_path / 'x.npy', x, allow_pickle=True)
    with pytest.raises(ValueError, match='x.npy'):
        load_features(str(tmp_path / 'x.npy'))
    assert not victim.exists()


@pytest.mark.parametrize(
    'shape, match',
    [
        ('(2**40, 1)', 'cannot be read'),
        ('(1099511627776, 1)', 'too short for shape'),
        ('(4294967296, 4294967296)', 'too short for shape'),
        ('(' + '9' * 4000 + ', 1)', 'too short for shape'),
        ('(-1, -8)', 'got shape'),
        ('(' + '1,' * 3000 + ')', 'got shape'),
        ('(8.0, 1)', 'cannot be read'),
    ],
)
@pytest.mark.parametrize('version', [1, 2])
def test_shape_that_is_a_lie(tmp_path, version, shape, match):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    length = struct.pack('<H' if version == 1 else '<I', len(text))
    content = b'\x93NUMPY' + bytes([version, 0]) + length + text.encode()
    (tmp_path / 'x.npy').write_bytes(content + b'\0' * 32)
    with pytest.raises(ValueError, match=f'x.npy.*{match}') as error:
        load_features(str(tmp_path / 'x.npy'))
    assert len(str(error.value)) < 500


def test_versions_of_the_format(tmp_path):
    path, x = tmp_path / 'x.npy', np.ones((2, 3), np.float32)
    for version in (1, 2, 3):
        with open(path, 'wb') as f, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            np.lib.format.write_array(f, x, (version, 0))
        if version == 3:
            with pytest.raises(ValueError, match=r'version \(3, 0\)'):
                load_features(str(path))
        else:
            assert load_features(str(path)).equal(torch.ones(2, 3))


def test_truncated_garbage_and_archive(tmp_path):
    path = tmp_path / 'x.npy'
    np.save(path, np.ones((5, 2)))
    content = path.read_bytes()
    for size in [0, 5, 60, len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf'x.npy.*\({size} bytes\)'):
            load_features(str(path))

    path.write_bytes(b'<!DOCTYPE html><html></html>')
    with pytest.raises(ValueError, match='x.npy.*cannot be read'):
        load_features(str(path))

    with open(path, 'wb') as f:
        np.savez(f, x=np.ones((5, 2)))
    with pytest.raises(ValueError, match='x.npy.*archive of arrays'):
        load_features(str(path))
