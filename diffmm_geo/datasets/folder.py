import os.path as osp
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import MAX_COUNT, check_int
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.reading import reading

from ._modality_files import (
    find_modalities,
    map_array,
    read_features,
    select_modalities,
)
from ._user_item_data import SPLITS, user_item_data

COLUMNS = ('user', 'item')


def load_folder(
    root: str | Path,
    modalities: Sequence[str] | None = None,
    num_users: int | None = None,
    num_items: int | None = None,
) -> HeteroData:
    r"""Loads a user-item graph of any size from a folder of binary files:

    - :obj:`train.npy` or :obj:`train.parquet`: observed interactions, as
      integers of shape :obj:`[2, E]` (row 0 users, row 1 items) or
      :obj:`[E, 2]`, or as Parquet columns :obj:`user` and :obj:`item`.
    - :obj:`val` and :obj:`test` (optional): held-out interactions, in the same
      formats.
    - :obj:`{modality}_feat.npy`: the features of each modality, with a row for
      each item.

    Half or single precision features, and 64-bit interactions of shape
    :obj:`[2, E]`, are memory-mapped: do not change the files while the graph
    is in use. Training keeps half precision features in half precision.

    Args:
        root (str or Path): The folder.
        modalities (list[str], optional): The modalities to load.
            (default: :obj:`None`, all in the folder)
        num_users (int, optional): The number of users.
            (default: :obj:`None`, the highest index plus one)
        num_items (int, optional): The number of items. (default: :obj:`None`,
            the number of feature rows, or without features the highest index
            plus one)

    Raises:
        ValueError: If a file is missing, is damaged, or does not fit the
            others.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from diffmm_geo.datasets import load_folder
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/train.npy', np.array([[0, 0, 1], [0, 2, 1]]))
        ...     np.save(f'{root}/image_feat.npy', np.ones((3, 8), np.float16))
        ...     load_folder(root)
        HeteroData(
          user={ num_nodes=2 },
          item={
            num_nodes=3,
            x_image=[3, 8],
          },
          (user, interacts, item)={ edge_index=[2, 3] }
        )
    """
    if num_users is not None:
        num_users = check_int('num_users', num_users)
    if num_items is not None:
        num_items = check_int('num_items', num_items)
    folder = str(check_path('root', root))
    paths = {}
    edges: dict[str, Tensor] = {}
    for split, key in zip(('train', 'val', 'test'), SPLITS):
        files = [osp.join(folder, f'{split}.{e}') for e in ('npy', 'parquet')]
        there = [path for path in files if osp.exists(path)]
        if len(there) > 1:
            raise ValueError(f'expected one of {files}, got both')
        for path in there:
            paths[key], edges[key] = path, load_interactions(path)
    if SPLITS[0] not in edges:
        raise ValueError(
            f"'{folder}': expected train.npy or train.parquet, got none"
        )
    modalities = select_modalities(modalities, find_modalities(folder))
    features = read_features(folder, modalities, num_items, mapped=True)
    for x in features.values():
        num_items = x.size(0)

    # The numbers of users and items that each file needs.
    needed = {
        key: [int(row.max()) + 1 if row.numel() > 0 else 0 for row in split]
        for key, split in edges.items()
    }
    most = [max(sizes) for sizes in zip(*needed.values())]
    num_users = most[0] if num_users is None else num_users
    num_items = most[1] if num_items is None else num_items
    for key, (users, items) in needed.items():
        if users > num_users or items > num_items:
            raise ValueError(
                f"'{paths[key]}': expected indices below {num_users} (users) "
                f'and {num_items} (items), got {users - 1} and {items - 1}'
            )
    return user_item_data(folder, num_users, num_items, features, edges)


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
