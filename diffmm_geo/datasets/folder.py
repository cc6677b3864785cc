from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import check_int
from diffmm_geo.utils.paths import check_path

from ._interaction_files import find_interactions, load_interactions
from ._modality_files import (
    find_modalities,
    read_features,
    select_modalities,
)
from ._user_item_data import SPLITS, user_item_data


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
        path = find_interactions(folder, split)
        if path is not None:
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
