import os
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from diffmm_geo.datasets._unpickle import read_pattern
from tests.pickled_call import PickledCall

DENSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 3]], dtype=float)
EDGES = [[0, 0, 2, 2], [1, 3, 0, 3]]
FORMATS = ['coo', 'csr', 'csc']


def write(path, content):
    path.write_bytes(content)
    return str(path)


def dump_state(path, **changes):
    matrix = sparse.coo_matrix(DENSE)
    state = {
        '_shape': (3, 4),
        'row': matrix.row,
        'col': matrix.col,
        'data': matrix.data,
    }
    state.update(changes)
    state = {key: x for key, x in state.items() if x is not None}
    matrix.__dict__.clear()
    matrix.__dict__.update(state)
    return write(path, pickle.dumps(matrix, protocol=3))


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('kind', ['matrix', 'array'])
@pytest.mark.parametrize('format', FORMATS)
def test_read_pattern(tmp_path, format, kind, protocol):
    matrix = getattr(sparse, f'{format}_{kind}')(DENSE)
    path = write(tmp_path / 'a.pkl', pickle.dumps(matrix, protocol=protocol))
    shape, edges = read_pattern(path)
    assert shape == (3, 4)
    assert edges.dtype == torch.int64
    assert edges.tolist() == EDGES


@pytest.mark.parametrize('format', FORMATS)
def test_read_pattern_of_old_module_names(tmp_path, dump_old, format):
    content = dump_old(getattr(sparse, f'{format}_matrix')(DENSE))
    assert f'cscipy.sparse.{format}\n'.encode() in content
    assert b'numpy._core' not in content
    path = write(tmp_path / 'a.pkl', content)
    assert read_pattern(path)[1].tolist() == EDGES


@pytest.mark.parametrize('index', ['i1', '<i4', '>i4', 'u8'])
@pytest.mark.parametrize('value', ['b1', 'f2', '>f4', 'f8'])
def test_read_pattern_of_numeric_types(tmp_path, index, value):
    row, col = DENSE.nonzero()
    path = dump_state(
        tmp_path / 'a.pkl',
        row=row.astype(index),
        col=col.astype(index),
        data=DENSE[row, col].astype(value),
    )
    assert read_pattern(path)[1].tolist() == EDGES


def test_read_pattern_coalesces_and_drops_explicit_zeros(tmp_path):
    path = dump_state(
        tmp_path / 'a.pkl',
        row=np.array([2, 0, 2, 1], dtype=np.int32),
        col=np.array([3, 1, 3, 2], dtype=np.int32),
        data=np.array([1.0, 1.0, 1.0, 0.0]),
    )
    assert read_pattern(path)[1].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize('protocol', [0, 2, 5])
@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize('function', ['system', 'eval', 'open'])
def test_hostile_pickle_is_not_executed(tmp_path, function, nested, protocol):
    victim = tmp_path / 'victim'
    hostile = {
        'system': PickledCall(os.system, f'touch {victim}'),
        'eval': PickledCall(eval, f'open({str(victim)!r}, "w").close()'),
        'open': PickledCall(open, str(victim), 'w'),
    }[function]
    if nested:
        matrix = sparse.coo_matrix(DENSE)
        matrix.data = hostile
        hostile = matrix
    content = pickle.dumps(hostile, protocol=protocol)
    path = write(tmp_path / 'a.pkl', content)
    with pytest.raises(ValueError, match='a.pkl.*not allowed'):
        read_pattern(path)
    assert not victim.exists()

    if not nested:
        pickle.loads(content)  # So the above would have noticed.
        assert victim.exists()


class Forged:
    # NumPy itself would read the bytes of an array as pointers.
    def __reduce__(self):
        object_field = {'a': (np.dtype('O'), 0)}
        state = (3, '|', None, ('a',), object_field, 8, 1, 0)
        return np.dtype, ('V8', False, True), state


@pytest.mark.parametrize(
    'changes, match',
    [
        (dict(row=np.array([0, 0, 2, 3])), 'exceeds matrix dim'),
        (dict(col=np.array([1, 3, 0, -1])), 'negative'),
        (dict(col=np.array([1, 3, 0, 2**63], 'u8')), 'negative'),
        (dict(row=np.array([0.0, 0, 2, 2])), 'indices of type float64'),
        (dict(row=np.array([0, 0, 2])), 'length'),
        (dict(row=np.array([0, 0, 2, 2], object)), 'not a plain number'),
        (dict(data=np.array([1, np.nan, 1, 1])), 'NaN or infinite'),
        (dict(data=Forged()), 'not a plain number'),
        (dict(row=None), 'KeyError'),
        (dict(_shape=(3, 4, 1)), 'shape'),
        (dict(_shape=(-3, 4)), 'shape'),
        (dict(_shape=(3, 2**40)), 'shape'),
    ],
)
def test_invalid_coo(tmp_path, changes, match):
    path = dump_state(tmp_path / 'a.pkl', **changes)
    with pytest.raises(ValueError, match=f'a.pkl.*{match}'):
        read_pattern(path)


@pytest.mark.parametrize(
    'indptr, match',
    [
        ([0, 2, 2], 'index pointer'),
        ([0, 2, 2, 5], 'Last value of index pointer'),
        ([0, 3, 2, 4], 'non-decreasing'),
    ],
)
def test_invalid_csr(tmp_path, indptr, match):
    matrix = sparse.csr_matrix(DENSE)
    matrix.indptr = np.array(indptr)
    path = write(tmp_path / 'a.pkl', pickle.dumps(matrix, protocol=3))
    with pytest.raises(ValueError, match=f'a.pkl.*{match}'):
        read_pattern(path)
