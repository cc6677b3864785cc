r"""Interactions in binary files."""

import os.path as osp

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.checks import MAX_COUNT
from diffmm_geo.utils.reading import reading

from ._modality_files import map_array

COLUMNS = ('user', 'item')


def find_interactions(folder: str, split: str) -> str | None:
    r"""The path of a split's file, or :obj:`None`."""
    paths = [osp.join(folder, f'{split}.{end}') for end in ('npy', 'parquet')]
    there = [path for path in paths if osp.exists(path)]
    if len(there) > 1:
        raise ValueError(f'expected one of {paths}, got both')
    return there[0] if there else None


def load_interactions(path: str) -> Tensor:
    r"""Reads an :obj:`edge_index` from a :obj:`.npy` file of integers
    :obj:`[2, E]` or :obj:`[E, 2]`, or from the columns :obj:`user` and
    :obj:`item` of a Parquet file. 64-bit integers :obj:`[2, E]` stay on disk.
    """
    if path.endswith('.parquet'):
        expected = f'a Parquet file with columns {list(COLUMNS)} of integers'
        read = _read_parquet
    else:
        expected = 'integers of shape [2, num_edges] or [num_edges, 2]'
        read = _read_npy
    with reading(path, expected):
        edges = read(path)
        low, high = edges.min(initial=0), edges.max(initial=0)
        if low < 0 or high >= MAX_COUNT:
            raise ValueError(f'values in [{low}, {high}]')
        return torch.from_numpy(edges)


def _read_npy(path: str) -> np.ndarray:
    array = map_array(path)
    if array.dtype.kind not in 'iu':
        raise ValueError(f'data type {array.dtype}')
    if array.ndim != 2 or 2 not in array.shape:
        raise ValueError(f'shape {list(array.shape)}')
    if array.shape[0] != 2:
        array = array.T
    return np.ascontiguousarray(array, np.int64)


def _read_parquet(path: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for name in COLUMNS:
            if schema.names.count(name) != 1:
                raise ValueError(f'columns {schema.names}')
            kind = schema.field(name).type
            if not pa.types.is_integer(kind):
                raise ValueError(f"'{name}' of type {kind}")
        # Column by column, to hold only one column twice.
        out = np.empty((2, file.metadata.num_rows), np.int64)
        for row, name in zip(out, COLUMNS):
            column = file.read([name]).column(0)
            if column.null_count > 0:
                raise ValueError(f"missing values of '{name}'")
            row[:] = column.to_numpy()
        return out
