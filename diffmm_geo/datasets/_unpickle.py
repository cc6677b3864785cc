import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

from diffmm_geo.utils.reading import reading

from ._user_item_data import distinct_edges


def read_pattern(path: str) -> tuple[tuple[int, int], Tensor]:
    r"""Reads the shape of a pickled SciPy matrix, and the sorted, distinct
    positions :math:`(2, |\mathcal{E}|)` of non-zeros. Executes nothing.
    """
    expected = 'a pickled SciPy sparse matrix (COO, CSR or CSC)'
    with reading(path, expected), open(path, 'rb') as f:
        matrix = _Unpickler(f).load()
        if not isinstance(matrix, _Matrix):
            raise ValueError(f'an object of type {type(matrix).__name__}')
        return matrix.pattern()


class _Dtype:
    def __init__(self, code: str, *_: Any) -> None:
        self.value = np.dtype(code)
        if self.value.kind not in 'biuf':
            raise ValueError(f'{code!r} is not a plain number')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, content = state
        self.value = np.frombuffer(content, dtype.value).reshape(shape)


def _frombuffer(content: bytes, dtype: _Dtype, shape: Any, _: str) -> _Array:
    out = _Array()
    out.__setstate__((1, shape, dtype, False, content))
    return out


def _encode(text: str, _: str) -> bytes:
    return text.encode('latin1')


class _Matrix:
    format = ''
    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def pattern(self) -> tuple[tuple[int, int], Tensor]:
        state, shape = self.state, self.state['_shape']
        if len(shape) != 2 or not all(0 < n < 2**31 for n in shape):
            raise ValueError(f'shape {shape}')
        # SciPy 1.13 renamed `row` and `col` to `coords`.
        if self.format == 'coo':
            index = state.get('coords') or (state['row'], state['col'])
        else:
            index = state['indices'], state['indptr']
        index = tuple(array.value for array in index)
        for array in index:
            if array.dtype.kind not in 'iu':
                raise ValueError(f'indices of type {array.dtype}')
        value = state['data'].value
        if not np.isfinite(value).all():
            raise ValueError('NaN or infinite values')

        if self.format == 'coo':
            matrix = sparse.coo_matrix((value != 0, index), shape=shape)
        else:
            cls = getattr(sparse, f'{self.format}_matrix')
            matrix = cls((value != 0, *index), shape=shape)
            matrix.check_format(full_check=True)
        return matrix.shape, distinct_edges(*matrix.nonzero())


# Replacements of the classes in such a file. NumPy's own classes are not safe:
# a forged state of `numpy.dtype` makes it read bytes of the file as pointers.
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,  # Bytes in protocol 2.
}
for _core in ('numpy.core', 'numpy._core'):  # Before and since NumPy 2.
    _ALLOWED[f'{_core}.multiarray', '_reconstruct'] = _Array
    _ALLOWED[f'{_core}.numeric', '_frombuffer'] = _frombuffer  # Protocol 5.
for _format in ('coo', 'csr', 'csc'):
    _cls = type(f'_{_format}', (_Matrix,), {'format': _format})
    for _module in (f'scipy.sparse.{_format}', f'scipy.sparse._{_format}'):
        for _kind in ('matrix', 'array'):
            _ALLOWED[_module, f'{_format}_{_kind}'] = _cls


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"'{module}.{name}' is not allowed")
        return _ALLOWED[module, name]
