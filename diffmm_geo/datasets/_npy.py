import os.path as osp

import numpy as np
import torch
from torch import Tensor


def load_features(path: str, num_rows: int | None = None) -> Tensor:
    r"""Reads a dense feature matrix from a :obj:`.npy` file as
    :obj:`torch.float32`, and never unpickles.

    Args:
        path (str): The file.
        num_rows (int, optional): The expected number of rows.
            (default: :obj:`None`)
    """
    expected = f"'{path}': expected a finite, two-dimensional numeric array"
    try:
        # Mapping the file compares its size to the header's shape before
        # anything is allocated.
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy raises what it pleases on garbage.
        raise ValueError(
            f'{expected}, got a file that cannot be read as one '
            f'({osp.getsize(path)} bytes): {error}'
        ) from error

    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f'{expected}, got an archive of arrays')
    if array.dtype.kind not in 'fiub':
        raise ValueError(f'{expected}, got data type {array.dtype}')
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f'{expected}, got shape {list(array.shape)}')
    if num_rows is not None and array.shape[0] != num_rows:
        raise ValueError(
            f'{expected} with one row for each of the {num_rows} items, got '
            f'shape {list(array.shape)}'
        )

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
