import os
import warnings
from io import BytesIO
from math import prod
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

# Of plain numbers; NumPy's own limit is 10,000.
MAX_HEADER_BYTES = 2**14


def load_features(path: str, num_rows: int | None = None) -> Tensor:
    r"""Reads a dense feature matrix from a :obj:`.npy` file as
    :obj:`torch.float32`, and never unpickles.

    Args:
        path (str): The file.
        num_rows (int, optional): The expected number of rows.
            (default: :obj:`None`)
    """
    expected = f"'{path}': expected a finite, two-dimensional numeric array"
    with open(path, 'rb') as f:
        shape, order, dtype = read_header(f, expected)
        if dtype.kind not in 'fiub':
            name = f'{dtype}'[:50]
            raise ValueError(f'{expected}, got data type {name}')
        # Of any number of dimensions, of any number of digits.
        got = f'shape {list(shape)}'[:100]
        if len(shape) != 2 or shape[1] <= 0 or shape[0] < 0:
            raise ValueError(f'{expected}, got {got}')
        check_length(f, shape, dtype, expected)
        if num_rows is not None and shape[0] != num_rows:
            raise ValueError(
                f'{expected} with one row for each of the {num_rows} items, '
                f'got {got}'
            )
        array = np.fromfile(f, dtype, prod(shape)).reshape(shape, order=order)

    with np.errstate(over='ignore'):
        out = torch.from_numpy(array.astype(np.float32))
    finite = out.isfinite().all(dim=1)
    if not finite.all():
        row = int(finite.logical_not().nonzero()[0])
        raise ValueError(
            f'{expected}, got NaN or infinite values in '
            f'{int((~finite).sum())} rows (the first is row {row})'
        )
    return out


def read_header(
    f: BinaryIO,
    expected: str,
) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    r"""The shape, the order and the type of an array, whose data come next.

    Args:
        f (BinaryIO): The file.
        expected (str): How messages begin: the path, and what is expected.
    """
    try:
        return _read_header(f)
    except Exception as error:  # NumPy raises what it pleases on garbage.
        reason = f'{type(error).__name__}: {error}'[:200]
        raise ValueError(
            f'{expected}, got a file that cannot be read as one '
            f'({file_size(f)} bytes): {reason}'
        ) from error


def check_length(
    f: BinaryIO,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    expected: str,
) -> None:
    r"""Raises, before anything of that size is allocated, if there are fewer
    data left in the file.

    Args:
        f (BinaryIO): The file.
        shape (tuple): The shape of the array.
        dtype (numpy.dtype): Its type.
        expected (str): How messages begin: the path, and what is expected.
    """
    size = file_size(f)
    if prod(shape) * dtype.itemsize > size - f.tell():
        got = f'shape {list(shape)}'[:100]
        raise ValueError(
            f'{expected}, got a file that cannot be read as one '
            f'({size} bytes): too short for {got} of {dtype}'
        )


def file_size(f: BinaryIO) -> int:
    r"""The size of an open file in bytes."""
    return os.fstat(f.fileno()).st_size


def _read_header(
    f: BinaryIO,
) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    r"""The shape, the order and the type; the data comes next."""
    # Of what a length in the header says, no more than this is read.
    head = BytesIO(f.read(MAX_HEADER_BYTES))
    if head.getvalue().startswith(b'PK'):
        raise ValueError('an archive of arrays')
    version = npy.read_magic(head)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Of headers that Python 2 wrote.
        if version == (1, 0):
            shape, is_fortran, dtype = npy.read_array_header_1_0(head)
        elif version == (2, 0):
            shape, is_fortran, dtype = npy.read_array_header_2_0(head)
        else:  # For names of fields.
            raise ValueError(f'version {version}')
    f.seek(head.tell())
    shape = tuple(int(n) for n in shape)  # `True` is one for NumPy.
    return shape, 'F' if is_fortran else 'C', dtype
