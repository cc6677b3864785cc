from collections.abc import Callable
from pickletools import genops
from typing import Any, NamedTuple

import numpy as np

from ._edges import unique_edges

# A matrix takes about a hundred.
MAX_OPCODES = 2**16


class SparsePattern(NamedTuple):
    r"""The shape and the sorted, distinct positions of the non-zeros of a
    sparse matrix, the latter of shape :math:`[2, |\mathcal{E}|]`.
    """

    shape: tuple[int, int]
    edges: np.ndarray


def read_pattern(path: str) -> SparsePattern:
    r"""Reads the non-zeros of a pickled SciPy matrix or array in COO, CSR or
    CSC format, and never executes what the file says.

    No class or function that the file names is ever imported or called:
    the names that such a matrix needs stand for stubs which record their
    arguments, and all other names and operations are refused.
    Shapes, data types and bytes are validated before NumPy sees them.

    Args:
        path (str): The file.
    """
    with open(path, 'rb') as f:
        content = f.read()
    try:
        return _to_pattern(_Unpickler(content).load())
    except Exception as error:  # Unpickling garbage raises nearly anything.
        reason = f'{type(error).__name__}: {error}'[:200]
        raise ValueError(
            f"'{path}': expected a pickled SciPy sparse matrix (COO, CSR or "
            f'CSC) of users and items, got a file of {len(content)} bytes '
            f'that is none ({reason})'
        ) from error


class _Record:
    # What a name in the file stands for: keeps what it is called with
    # (`REDUCE`, `NEWOBJ`) and the state that it is given (`BUILD`).
    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args = args
        self.state: Any = None


class _Array(_Record):
    pass


class _Buffer(_Record):
    pass


class _Dtype(_Record):
    pass


class _Encoded(_Record):
    pass


class _COO(_Record):
    pass


class _CSR(_Record):
    pass


class _CSC(_Record):
    pass


_STUBS: dict[tuple[str, str], type[_Record]] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _Encoded,  # Bytes in protocol 2.
}
for _core in ['numpy.core', 'numpy._core']:  # Before and since NumPy 2.
    _STUBS[f'{_core}.multiarray', '_reconstruct'] = _Array
    _STUBS[f'{_core}.numeric', '_frombuffer'] = _Buffer  # Protocol 5.
for _format, _stub in [('coo', _COO), ('csr', _CSR), ('csc', _CSC)]:
    for _prefix in ['', '_']:  # Before and since SciPy 1.8.
        for _kind in ['matrix', 'array']:
            _name = f'{_format}_{_kind}'
            _STUBS[f'scipy.sparse.{_prefix}{_format}', _name] = _stub


class _Unpickler:
    # `pickle.Unpickler` fills what it is told to: a dictionary with a key
    # that is a tuple in a tuple in a tuple, for one, whose hash overflows the
    # stack of the process. These few opcodes are all that a matrix needs.
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        # `genops` only parses. It finds truncated values, and allocates no
        # more than is there.
        for count, (opcode, arg, _) in enumerate(genops(self.content)):
            if count >= MAX_OPCODES:
                raise ValueError(f'more than {MAX_OPCODES} opcodes')
            if opcode.name == 'STOP':
                return self.pop()
            if opcode.name in _LITERALS:
                self.stack.append(arg)
            elif opcode.name in _OPERATIONS:
                _OPERATIONS[opcode.name](self, arg)
            elif opcode.name not in _IGNORED:
                raise ValueError(f'opcode {opcode.name} is not allowed')
        raise ValueError('no end')

    def pop(self) -> Any:
        # Not below the last mark.
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError('an empty stack')
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def tuple(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.push((*reversed(items),))

    def set_items(self, items: list[Any]) -> None:
        target = self.pop()
        self.push(target)
        if type(target) is not dict or len(items) % 2 != 0:
            raise ValueError('items of what is no dictionary')
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:
                raise ValueError('a key that is not a string')
            target[key] = value

    def put(self, index: int) -> None:
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def find_class(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError('a name that is not a string')
        if (module, name) not in _STUBS:
            raise ValueError(f"'{module[:50]}.{name[:50]}' is not allowed")
        self.push(_STUBS[module, name])

    def call(self, _: Any) -> None:
        args, stub = self.pop(), self.pop()
        if type(args) is not tuple or stub not in _STUBS.values():
            raise ValueError('a call of what cannot be called')
        self.push(stub(args))

    def build(self, _: Any) -> None:
        state, record = self.pop(), self.pop()
        if not isinstance(record, _Record):
            raise ValueError('a state of what has none')
        record.state = state
        self.push(record)


# Those whose value is their argument, and those that say nothing of use.
_LITERALS = frozenset(
    'BININT BININT1 BININT2 LONG1 BINFLOAT '
    'BINUNICODE SHORT_BINUNICODE BINUNICODE8 '
    'BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8'.split()
)
_IGNORED = frozenset(['PROTO', 'FRAME'])
_OPERATIONS: dict[str, Callable[[_Unpickler, Any], None]] = {
    'MARK': _Unpickler.mark,
    'NONE': lambda self, _: self.push(None),
    'NEWTRUE': lambda self, _: self.push(True),
    'NEWFALSE': lambda self, _: self.push(False),
    'EMPTY_DICT': lambda self, _: self.push({}),
    'EMPTY_TUPLE': lambda self, _: self.tuple(0),
    'TUPLE1': lambda self, _: self.tuple(1),
    'TUPLE2': lambda self, _: self.tuple(2),
    'TUPLE3': lambda self, _: self.tuple(3),
    'TUPLE': lambda self, _: self.push((*self.pop_to_mark(),)),
    'SETITEM': lambda self, _: self.set_items([self.pop(), self.pop()][::-1]),
    'SETITEMS': lambda self, _: self.set_items(self.pop_to_mark()),
    'BINPUT': _Unpickler.put,
    'LONG_BINPUT': _Unpickler.put,
    'MEMOIZE': lambda self, _: self.put(len(self.memo)),
    'BINGET': lambda self, arg: self.push(self.memo[arg]),
    'LONG_BINGET': lambda self, arg: self.push(self.memo[arg]),
    'GLOBAL': lambda self, arg: self.find_class(*arg.split(' ', 1)),
    'STACK_GLOBAL': lambda self, _: self.find_class(
        *[self.pop(), self.pop()][::-1]
    ),
    'NEWOBJ': _Unpickler.call,
    'REDUCE': _Unpickler.call,
    'BUILD': _Unpickler.build,
}


def _to_pattern(matrix: Any) -> SparsePattern:
    if not isinstance(matrix, (_COO, _CSR, _CSC)):
        raise ValueError(f'an object of type {type(matrix).__name__}')
    state = matrix.state
    if not isinstance(state, dict):
        raise ValueError('a matrix without a state')

    shape = state['_shape']
    if not (isinstance(shape, tuple) and len(shape) == 2):
        raise ValueError('a shape that is not a pair')
    for size in shape:
        if type(size) is not int or not 0 < size < 2**31:
            raise ValueError('a shape that is not a pair of positive integers')
    num_users, num_items = shape

    if isinstance(matrix, _COO):
        # `coords` since SciPy 1.13.
        coords = state['coords'] if 'coords' in state else None
        row, col = coords or (state['row'], state['col'])
        user, item = _to_array(row), _to_array(col)
    elif isinstance(matrix, _CSR):
        item = _to_array(state['indices'])
        user = _expand(_to_array(state['indptr']), num_users, len(item))
    else:
        user = _to_array(state['indices'])
        item = _expand(_to_array(state['indptr']), num_items, len(user))
    value = _to_array(state['data'])

    if not len(user) == len(item) == len(value):
        raise ValueError(
            f'{len(user)} row indices, {len(item)} column indices and '
            f'{len(value)} values'
        )
    for index, size in [(user, num_users), (item, num_items)]:
        if index.dtype.kind not in 'iu':
            raise ValueError(f'indices of type {index.dtype}')
        if len(index) > 0 and not (index.min() >= 0 and index.max() < size):
            raise ValueError(
                f'indices from {index.min()} to {index.max()} in a dimension '
                f'of size {size}'
            )
    if not np.isfinite(value).all():
        raise ValueError('NaN or infinite values')

    mask = value != 0
    edges = unique_edges(user[mask], item[mask], num_items)
    return SparsePattern((num_users, num_items), edges)


def _expand(indptr: np.ndarray, size: int, num_values: int) -> np.ndarray:
    if indptr.dtype.kind not in 'iu' or len(indptr) != size + 1:
        raise ValueError(f'not {size + 1} integer offsets')
    if indptr[0] != 0 or indptr[-1] != num_values:
        raise ValueError(f'offsets that do not span {num_values} values')
    # Compared, not subtracted: offsets may be unsigned.
    if (indptr[1:] < indptr[:-1]).any():
        raise ValueError('decreasing offsets')
    # Unsigned counts cannot be repeated by.
    count = np.diff(indptr).astype(np.int64)
    return np.repeat(np.arange(size), count)


def _to_array(record: Any) -> np.ndarray:
    if isinstance(record, _Array):
        _, shape, dtype, _, content = record.state
    elif isinstance(record, _Buffer):
        content, dtype, shape, _ = record.args
    else:
        raise ValueError(f'{type(record).__name__} in place of an array')

    if isinstance(content, _Encoded):
        text, encoding = content.args
        if encoding != 'latin1':
            raise ValueError('bytes in an unknown encoding')
        content = text.encode('latin1')
    if not isinstance(content, (bytes, bytearray)):
        raise ValueError(f'{type(content).__name__} in place of bytes')

    dtype = _to_dtype(dtype)
    length, remainder = divmod(len(content), dtype.itemsize)
    if remainder != 0 or shape != (length,):
        raise ValueError(
            f'an array of {len(content)} bytes whose shape is not the '
            f'one-dimensional ({length},)'
        )
    if length == 0:
        return np.empty(0, dtype)
    # Native byte order, and a copy that is writable.
    return np.frombuffer(content, dtype).astype(dtype.newbyteorder('='))


_DTYPES = [
    *['b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8'],
    *['f2', 'f4', 'f8'],
]


def _to_dtype(record: Any) -> np.dtype[Any]:
    if not isinstance(record, _Dtype):
        raise ValueError(f'{type(record).__name__} in place of a data type')
    code = record.args[0]
    if type(code) is not str or code not in _DTYPES:
        raise ValueError('a data type that is not a plain number')
    order: Any = '=' if record.state is None else record.state[1]
    if order not in ('<', '>', '|', '='):
        raise ValueError('an unknown byte order')
    dtype: np.dtype[Any] = np.dtype(code).newbyteorder(order)
    return dtype
