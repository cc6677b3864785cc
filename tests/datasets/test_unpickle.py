import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from diffmm_geo.datasets._unpickle import read_pattern

DENSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 3]], dtype=float)
EDGES = [[0, 0, 2, 2], [1, 3, 0, 3]]


def dump_old(matrix):
    r"""Writes a pickle as older versions of NumPy and SciPy did."""
    content = pickle.dumps(matrix, protocol=3)
    content = content.replace(b'cnumpy._core.', b'cnumpy.core.')
    assert b'cscipy.sparse._' in content and b'cnumpy.core.' in content
    return content.replace(b'cscipy.sparse._', b'cscipy.sparse.')


@pytest.fixture
def read(tmp_path):
    r"""Reads a matrix, or what was dumped."""

    def write_and_read(matrix):
        if not isinstance(matrix, bytes):
            matrix = pickle.dumps(matrix, protocol=3)
        (tmp_path / 'a.pkl').write_bytes(matrix)
        return read_pattern(str(tmp_path / 'a.pkl'))

    return write_and_read


def changed(**changes):
    r"""A COO matrix in another state."""
    matrix = sparse.coo_matrix(DENSE)
    state = {
        '_shape': (3, 4),
        'row': matrix.row,
        'col': matrix.col,
        'data': matrix.data,
        **changes,
    }
    matrix.__dict__.clear()
    matrix.__dict__.update({k: x for k, x in state.items() if x is not None})
    return matrix


@pytest.mark.parametrize('protocol', ['old', 2, 3, 4, 5])
@pytest.mark.parametrize('kind', ['matrix', 'array'])
@pytest.mark.parametrize('format', ['coo', 'csr', 'csc'])
def test_read_pattern(read, format, kind, protocol):
    matrix = getattr(sparse, f'{format}_{kind}')(DENSE)
    is_old = protocol == 'old'
    shape, edges = read(
        dump_old(matrix) if is_old else pickle.dumps(matrix, protocol)
    )
    assert shape == (3, 4)
    assert edges.dtype == torch.int64
    assert edges.tolist() == EDGES


@pytest.mark.parametrize('index', ['i1', '<i4', '>i4', 'u8'])
@pytest.mark.parametrize('value', ['b1', 'f2', '>f4', 'f8'])
def test_numeric_types(read, index, value):
    row, col = (x.astype(index) for x in DENSE.nonzero())
    matrix = changed(row=row, col=col, data=DENSE[row, col].astype(value))
    assert read(matrix)[1].tolist() == EDGES


def test_coalesces_and_drops_explicit_zeros(read):
    row = np.array([2, 0, 2, 1], np.int32)
    col = np.array([3, 1, 3, 2], np.int32)
    matrix = changed(row=row, col=col, data=np.array([1.0, 1.0, 1.0, 0.0]))
    assert read(matrix)[1].tolist() == [[0, 2], [1, 3]]


class Forged:
    # NumPy itself would read the bytes of an array as pointers.
    def __reduce__(self):
        object_field = {'a': (np.dtype('O'), 0)}
        state = (3, '|', None, ('a',), object_field, 8, 1, 0)
        return np.dtype, ('V8', False, True), state


def csr(indptr):
    matrix = sparse.csr_matrix(DENSE)
    matrix.indptr = np.array(indptr)
    return matrix


@pytest.mark.parametrize(
    'matrix, match',
    [
        (changed(row=np.array([0, 0, 2, 3])), 'exceeds matrix dim'),
        (changed(col=np.array([1, 3, 0, -1])), 'negative'),
        (changed(col=np.array([1, 3, 0, 2**63], 'u8')), 'negative'),
        (changed(row=np.array([0.0, 0, 2, 2])), 'indices of type float64'),
        (changed(row=np.array([0, 0, 2])), 'length'),
        (changed(row=np.array([0, 0, 2, 2], object)), 'not a plain number'),
        (changed(data=np.array([1, np.nan, 1, 1])), 'NaN or infinite'),
        (changed(data=Forged()), 'not a plain number'),
        (changed(row=None), 'KeyError'),
        (changed(_shape=(3, 4, 1)), 'shape'),
        (changed(_shape=(-3, 4)), 'shape'),
        (changed(_shape=(3, 2**40)), 'shape'),
        (csr([0, 2, 2]), 'index pointer'),
        (csr([0, 2, 2, 5]), 'Last value of index pointer'),
        (csr([0, 3, 2, 4]), 'non-decreasing'),
    ],
)
def test_invalid_matrix(read, matrix, match):
    with pytest.raises(ValueError, match=f'a.pkl.*{match}'):
        read(matrix)
