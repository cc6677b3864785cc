from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import check_bool
from diffmm_geo.utils.paths import check_path

from ._user_item_data import SPLITS
from .diffmm import AmazonBaby, AmazonSports, DiffMMDataset, TikTok
from .folder import load_folder
from .mmrec import MMRecDataset
from .movielens import MovieLens100K

#: The datasets of :func:`load_dataset` by name.
DATASETS: dict[str, Any] = {
    'amazon-baby': AmazonBaby,
    'amazon-sports': AmazonSports,
    'diffmm': DiffMMDataset,
    'movielens-100k': MovieLens100K,
    'tiktok': TikTok,
}


def load_dataset(
    name: str,
    root: str | Path,
    modalities: Sequence[str] | None = None,
    force_reload: bool = False,
    drop_cold_users: bool = False,
) -> HeteroData:
    r"""Loads the graph of a dataset by name.

    Args:
        name (str): One of :obj:`"amazon-baby"`, :obj:`"amazon-sports"`,
            :obj:`"movielens-100k"`, :obj:`"tiktok"`, :obj:`"diffmm"`
            (:class:`~diffmm_geo.datasets.DiffMMDataset`), :obj:`"folder"`
            (:func:`~diffmm_geo.datasets.load_folder`), or the name of a
            :class:`~diffmm_geo.datasets.MMRecDataset`.
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load.
            (default: :obj:`None`, the default of the dataset)
        force_reload (bool, optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.
            (default: :obj:`False`)
        drop_cold_users (bool, optional): Whether to drop the held-out
            interactions of users without training interactions, as MMRec does.
            The users stay. (default: :obj:`False`)

    Raises:
        ValueError: If there is no such dataset.
    """
    root = check_path('root', root)
    check_bool('drop_cold_users', drop_cold_users)
    if name == 'folder':
        data = load_folder(root, modalities)
    elif name in DATASETS or (root / 'raw' / f'{name}.inter').exists():
        load = DATASETS.get(name, partial(MMRecDataset, name=name))
        data = load(
            str(root), modalities=modalities, force_reload=force_reload
        )[0]
    else:
        raise ValueError(
            f"'name' needs to be one of {list(DATASETS)} or the name of a file "
            f'{{name}}.inter in {root / "raw"} (got {name!r})'
        )
    if drop_cold_users:
        store: Any = data['user', 'interacts', 'item']
        for key in SPLITS[1:]:
            if key in store:
                is_warm = torch.isin(store[key][0], store.edge_index[0])
                store[key] = store[key][:, is_warm]
    return data
