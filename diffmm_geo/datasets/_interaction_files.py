r"""Interactions in binary files, without a Python object an edge."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._mapped import BLOCK_SIZE, map_array

SUFFIXES = ('.npy', '.parquet')
# The names of the columns of a Parquet file.
COLUMNS = ('user', 'item')
# Rows that are read at a time.
ROWS = 2**20
MAX_INDEX = 2**31 - 1


def find_interactions(folder: str, split: str) -> str | None:
    r"""The path of the file of a split, if there is one.

    Args:
        folder (str): The folder.
        split (str): The name of the split.
    """
    paths = [osp.join(folder, f'{split}{suffix}') for suffix in SUFFIXES]
    there = [path for path in paths if osp.exists(path)]
    if len(there) > 1:
        raise ValueError(f'expected one of {paths}, got both')
    return there[0] if there else None


def load_interactions(path: str) -> Tensor:
    r"""Reads interactions as an :obj:`edge_index`, from a :obj:`.npy` file of
    integers of shape :obj:`[2, E]` or :obj:`[E, 2]`, or the columns
    :obj:`user` and :obj:`item` of a Parquet file. :obj:`[2, E]` in 64 bits
    stays on disk.

    Args:
        path (str): The file.

    Raises:
        ValueError: If the file is neither, or holds an index below zero or
            above :math:`2^{31} - 1`.
    """
    read = _read_parquet if path.endswith('.parquet') else _read_npy
    edge_index = read(path)
    for start in range(0, edge_index.size(1), BLOCK_SIZE):
        block = edge_index[:, start : start + BLOCK_SIZE]
        low, high = (int(value) for value in block.aminmax())
        if low < 0 or high > MAX_INDEX:
            raise ValueError(
                f"'{path}': expected indices in [0, {MAX_INDEX}], got values "
                f'in [{low}, {high}]'
            )
    return edge_index


def _read_npy(path: str) -> Tensor:
    expected = (
        f"'{path}': expected integers of shape [2, num_edges] or [num_edges, 2]"
    )
    array = map_array(path, expected)
    shape = f'shape {list(array.shape)}'[:100]
    if array.dtype.kind not in 'iu':
        raise ValueError(f'{expected}, got data type {array.dtype}')
    if array.ndim != 2 or 2 not in array.shape:
        raise ValueError(f'{expected}, got {shape}')
    if array.shape[0] != 2:
        array = array.T
    if array.dtype == np.dtype('<i8') and array.flags.c_contiguous:
        return torch.from_numpy(array)
    out = np.empty(array.shape, np.int64)
    for start in range(0, array.shape[1], BLOCK_SIZE):
        columns = slice(start, start + BLOCK_SIZE)
        out[:, columns] = array[:, columns]
    return torch.from_numpy(out)


def _read_parquet(path: str) -> Tensor:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"reading '{path}' needs PyArrow: pip install 'diffmm_geo[parquet]'"
        ) from error
    expected = (
        f"'{path}': expected a Parquet file with columns {list(COLUMNS)} of "
        f'integers, none missing'
    )
    try:
        with pq.ParquetFile(path) as file:
            for name in COLUMNS:
                _check_column(pa, file.schema_arrow, name, expected)
            return _read_batches(file, expected)
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        # Of its lines the first says what, the others where in PyArrow.
        reason = f'{type(error).__name__}: {error}'.split('\n')[0][:200]
        raise ValueError(
            f'{expected}, got a file that cannot be read as one '
            f'({osp.getsize(path)} bytes): {reason}'
        ) from error


def _check_column(pa: Any, schema: Any, name: str, expected: str) -> None:
    fields = [schema.field(n) for n in schema.get_all_field_indices(name)]
    if len(fields) != 1:
        names = f'{schema.names}'[:200]
        raise ValueError(f'{expected}, got columns {names}')
    if not pa.types.is_integer(fields[0].type):
        kind = f'{fields[0].type}'[:100]
        raise ValueError(f"{expected}, got '{name}' of type {kind}")


def _read_batches(file: Any, expected: str) -> Tensor:
    num_rows = file.metadata.num_rows
    sizes = [0]
    # A file may say that it has any number of rows: what is there is read
    # once before so much memory is taken.
    if num_rows > ROWS:
        for batch in _batches(file):
            sizes.append(batch.num_rows)
        if sum(sizes) != num_rows:
            raise ValueError(
                f'{expected}, got {sum(sizes)} rows in place of {num_rows}'
            )
    out = np.empty((2, max(0, num_rows)), np.int64)
    place = 0
    for batch in _batches(file):
        stop = place + batch.num_rows
        if stop > num_rows:
            raise ValueError(f'{expected}, got more rows than {num_rows}')
        for row, name in zip(out, COLUMNS):
            column = batch.column(name)
            if column.null_count > 0:
                raise ValueError(f"{expected}, got missing '{name}'")
            row[place:stop] = column.to_numpy(zero_copy_only=False)
        place = stop
    if place != num_rows:
        raise ValueError(f'{expected}, got {place} rows in place of {num_rows}')
    return torch.from_numpy(out)


def _batches(file: Any) -> Iterator[Any]:
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(
            ROWS, row_groups=[group], columns=COLUMNS, use_threads=False
        )
