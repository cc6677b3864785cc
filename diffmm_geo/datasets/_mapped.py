r"""Arrays in :obj:`.npy` files, left on disk: the system reads the pages that
are used, and drops them where memory gets short.
"""

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._npy import check_length, load_features, read_header

# Types that a mapped tensor may have; others are read and converted.
MAPPED = {np.dtype('<f2'), np.dtype('<f4')}
# Elements that are looked at or converted at a time.
BLOCK_SIZE = 2**22


def map_features(path: str, num_rows: int | None = None) -> Tensor:
    r"""A dense feature matrix in a :obj:`.npy` file of half or single
    precision as a tensor that stays on disk. Other types are read as
    :obj:`torch.float32`.

    Args:
        path (str): The file.
        num_rows (int, optional): The expected number of rows.
            (default: :obj:`None`)

    Raises:
        ValueError: If the file is not such a matrix, of finite values.
    """
    expected = f"'{path}': expected a finite, two-dimensional numeric array"
    array = map_array(path, expected)
    if (
        array.dtype not in MAPPED
        or array.ndim != 2
        or array.size == 0
        or not array.flags.c_contiguous
    ):
        return load_features(path, num_rows)
    if num_rows is not None and array.shape[0] != num_rows:
        raise ValueError(
            f'{expected} with one row for each of the {num_rows} items, got '
            f'shape {list(array.shape)}'
        )
    height = max(1, BLOCK_SIZE // array.shape[1])
    for start in range(0, array.shape[0], height):
        finite = np.isfinite(array[start : start + height]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise ValueError(
                f'{expected}, got NaN or infinite values (the first in row '
                f'{row})'
            )
    return torch.from_numpy(array)


def map_array(path: str, expected: str) -> np.ndarray:
    r"""The array of numbers in a :obj:`.npy` file, mapped. What is written to
    it stays in memory.

    Args:
        path (str): The file.
        expected (str): How messages begin: the path, and what is expected.
    """
    with open(path, 'rb') as f:
        shape, order, dtype = read_header(f, expected)
        got = f'shape {list(shape)}'[:100]
        if dtype.kind not in 'fiub':
            raise ValueError(f'{expected}, got data type {dtype}'[:5000])
        if any(n < 0 for n in shape):
            raise ValueError(f'{expected}, got {got}')
        check_length(f, shape, dtype, expected)
        offset = f.tell()
    try:
        if prod(shape) == 0:  # There is nothing to map.
            return np.empty(shape, dtype)
        flags: dict[str, Any] = {'offset': offset, 'order': order}
        return np.asarray(
            np.memmap(path, dtype, mode='c', shape=shape, **flags)
        )
    except (ValueError, OSError, OverflowError) as error:
        raise ValueError(f'{expected}, got {got}: {error}') from error
