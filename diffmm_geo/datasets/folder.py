import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import check_int
from diffmm_geo.utils.paths import check_path

from ._interaction_files import find_interactions, load_interactions
from ._modalities import feature_file, find_modalities, select_modalities
from ._npy import load_features
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
    splits: dict[str, tuple[str, Tensor]] = {}
    keys = dict(zip(('train', 'val', 'test'), SPLITS))
    for split in keys:
        path = find_interactions(folder, split)
        if path is not None:
            splits[split] = path, load_interactions(path)
    if 'train' not in splits or splits['train'][1].size(1) == 0:
        raise ValueError(
            f"'{folder}': expected interactions in train.npy or "
            f'train.parquet, got none'
        )

    known, where = find_modalities(folder), f" in '{folder}'"
    features: dict[str, Tensor] = {}
    for m in select_modalities(modalities, known, where):
        path = osp.join(folder, feature_file(m))
        features[m] = load_features(path, num_items, mapped=True)
        num_items = features[m].size(0)

    # The highest indices, or -1.
    high = {
        path: [int(row.max()) if row.numel() > 0 else -1 for row in edges]
        for path, edges in splits.values()
    }
    if num_users is None:
        num_users = 1 + max(user for user, _ in high.values())
    if num_items is None:
        num_items = 1 + max(item for _, item in high.values())
    for path, indices in high.items():
        for name, index, size in zip(
            ('user', 'item'), indices, (num_users, num_items)
        ):
            if index >= size:
                raise ValueError(
                    f"'{path}': expected {name} indices below {size}, got "
                    f'{index}'
                )

    edge_dict = {keys[split]: edges for split, (_, edges) in splits.items()}
    return user_item_data(num_users, num_items, features, edge_dict)
