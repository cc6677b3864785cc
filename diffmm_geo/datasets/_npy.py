import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.expecting import expecting

# Data types of features that may stay on disk.
KEPT = (np.dtype('<f2'), np.dtype('<f4'))
BLOCK_SIZE = 2**22


def map_array(path: str) -> np.ndarray:
    r"""Maps a numeric :obj:`.npy` file into memory, copied on write."""
    array = np.load(path, mmap_mode='c', allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError('an archive of arrays')
    if array.dtype.kind not in 'fiub':
        raise ValueError(f'data type {array.dtype}')
    return np.asarray(array)


def load_features(
    path: str, num_rows: int | None = None, mapped: bool = False
) -> Tensor:
    r"""Reads a finite feature matrix from a :obj:`.npy` file, without
    unpickling, as :obj:`torch.float32`. If :obj:`mapped=True`, half and single
    precision stay on disk as they are.
    """
    expected = 'a finite, two-dimensional numeric array'
    if num_rows is not None:
        expected = f'{expected} with a row for each of the {num_rows} items'
    with expecting(path, expected):
        array = map_array(path)
        shape = list(array.shape)
        if len(shape) != 2 or shape[1] == 0 or num_rows not in (None, shape[0]):
            raise ValueError(f'shape {shape}')
        if not (mapped and array.dtype in KEPT and array.flags.c_contiguous):
            with np.errstate(over='ignore'):
                array = array.astype(np.float32, order='C')
        height = max(1, BLOCK_SIZE // shape[1])
        for start in range(0, shape[0], height):
            finite = np.isfinite(array[start : start + height]).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise ValueError(
                    f'NaN or infinite values, the first in row {row}'
                )
        return torch.from_numpy(array)
