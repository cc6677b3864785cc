import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    MAX_COUNT,
    check_edge_index,
    check_edge_type,
    check_matrix,
    check_unweighted,
)
from diffmm_geo.utils.interactions import count_nodes, observed_edges
from diffmm_geo.utils.paths import check_path

from ._modality_files import feature_file, find_modalities, read_features
from ._table import read_columns
from ._user_item_data import SPLITS, distinct_edges, user_item_data
from ._user_item_dataset import DataTransform, UserItemDataset


class MMRecDataset(UserItemDataset):
    r"""A dataset in the format of the `MMRec toolbox
    <https://github.com/enoche/MMRec>`_ of the `"MMRec: Simplifying Multimodal
    Recommendation" <https://arxiv.org/abs/2302.03497>`_ paper, the common
    exchange format of multi-modal recommendation.
    :func:`~diffmm_geo.datasets.write_mmrec` writes it.

    Files in :obj:`root/raw`:

    * :obj:`{name}.inter`: tab-separated interactions with a header. The
      columns are :obj:`userID`, :obj:`itemID` (both counted from zero) and
      :obj:`x_label` (:obj:`0` for training, :obj:`1` for validation, :obj:`2`
      for testing). Other columns are ignored.
    * :obj:`{modality}_feat.npy`, *e.g.*, :obj:`image_feat.npy`: a row of
      features for each item.

    The number of users is the largest user index plus one. The number of items
    is the number of feature rows. Without features, it is the largest item
    index plus one. Repeated interactions count once.

    Users without training interactions keep their held-out ones, unlike in
    MMRec; see :func:`~diffmm_geo.datasets.load_dataset`.

    Args:
        root (str): The root directory of the dataset.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        modalities, transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.DiffMMDataset`.
    """

    by_hand = (
        'Put a dataset in the format of the MMRec toolbox '
        '(https://github.com/enoche/MMRec) there.'
    )

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        self.name = _check_name(name)
        self.interaction_files = [f'{name}.inter']
        super().__init__(
            root, modalities, transform, pre_transform, force_reload
        )

    @property
    def processed_file_names(self) -> str:
        return f'{self.name}+{super().processed_file_names}'

    def read_raw(self) -> HeteroData:
        path = self.raw_paths[0]
        kinds = {'userID': 'uint32', 'itemID': 'uint32', 'x_label': 'uint8'}
        user, item, label = read_columns(path, list(kinds.items()))
        highest = [int(x.max(initial=0)) for x in (user, item, label)]
        for name, got, most in zip(kinds, highest, (*[MAX_COUNT - 1] * 2, 2)):
            if got > most:
                raise ValueError(
                    f"'{path}': expected '{name}' up to {most}, got {got}"
                )
        num_users, num_items = highest[0] + 1, highest[1] + 1
        features = read_features(self.raw_dir, self.modalities)
        for x in features.values():
            if x.size(0) < num_items:
                raise ValueError(
                    f"'{self.raw_dir}': expected features of the {num_items} "
                    f"items in '{path}', got {x.size(0)} rows"
                )
            num_items = x.size(0)
        edges = {
            key: distinct_edges(user[label == n], item[label == n])
            for n, key in enumerate(SPLITS)
        }
        return user_item_data(path, num_users, num_items, features, edges)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.name})'


def write_mmrec(
    data: HeteroData,
    folder: str | Path,
    name: str,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> None:
    r"""Writes a user-item graph in the format of the `MMRec toolbox
    <https://github.com/enoche/MMRec>`_. The file :obj:`{name}.inter` holds the
    interactions, with ratings :obj:`1.0` and timestamps :obj:`0`. The files
    :obj:`{modality}_feat.npy` hold the item features :obj:`x_{modality}`, in
    their data type. The format holds nothing else.
    :class:`~diffmm_geo.datasets.MMRecDataset` reads the files from
    :obj:`folder = root/raw`, and the toolbox reads them from
    :obj:`data/{name}`.

    Existing files are replaced once all new files are complete.

    Args:
        data (HeteroData): The graph; see
            :class:`~diffmm_geo.training.Trainer`. Held-out interactions are
            optional.
        folder (str or Path): The folder, created if missing.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the format cannot hold the graph, such as edge weights.
            The last user needs an interaction. Without features, the last item
            also needs one.
        FileExistsError: If the folder holds features of another modality.
    """
    _check_name(name)
    path = check_path('folder', folder)
    edge_type = check_edge_type(edge_type)
    sizes = count_nodes(data, edge_type)
    store = data[edge_type]
    check_unweighted(edge_type, store)
    splits = {SPLITS[0]: observed_edges(store, sizes)}
    for key in SPLITS[1:]:
        if key in store:
            splits[key] = check_edge_index(key, store[key], *sizes)
    if splits[SPLITS[0]].size(1) == 0:
        raise ValueError(
            "'edge_index' needs at least one interaction (got none)"
        )
    features = {
        key[2:]: _array(key, x, sizes[1])
        for key, x in data[edge_type[2]].items()
        if key.startswith('x_')
    }
    _check_modalities(path, list(features))
    highest = torch.cat([*splits.values()], dim=1).amax(dim=1).tolist()
    for side, size, got in zip(('user', 'item'), sizes, highest):
        if got + 1 < size and (side == 'user' or not features):
            raise ValueError(
                f"'data' needs an interaction of its last {side} {size - 1}: "
                f'the largest {side} in the file gives the number of {side}s '
                f'(got {got})'
            )
    path.mkdir(parents=True, exist_ok=True)
    # Once all files are complete, they replace earlier ones.
    with ExitStack() as stack:
        file = stack.enter_context(atomic_path(str(path / f'{name}.inter')))
        with open(file, 'w', newline='') as f:
            f.write('userID\titemID\trating\ttimestamp\tx_label\n')
            f.writelines(
                f'{user}\t{item}\t1.0\t0\t{SPLITS.index(key)}\n'
                for key, edges in splits.items()
                for user, item in edges.t().tolist()
            )
        for modality, x in features.items():
            file = str(path / feature_file(modality))
            with open(stack.enter_context(atomic_path(file)), 'wb') as f:
                np.save(f, x, allow_pickle=False)


def _check_name(name: str) -> str:
    if not isinstance(name, str) or re.fullmatch(r'[\w.-]+', name) is None:
        raise ValueError(
            f"'name' needs to be the name of a file without its extension "
            f'(got {name!r})'
        )
    return name


def _array(name: str, x: Tensor, num_items: int) -> np.ndarray:
    x = check_matrix(name, x, num_items, finite=False).detach().cpu()
    # Readers convert to 32 bits, where large values overflow.
    single = check_matrix(name, x.float())
    # NumPy has no bfloat16.
    return single.numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _check_modalities(folder: Path, modalities: list[str]) -> None:
    for modality in modalities:
        # As readers find them, apart from separators and controls.
        if re.fullmatch(r'[^./\\:\0-\x1f][^/\\:\0-\x1f]*', modality) is None:
            raise ValueError(
                f"'data' needs modality names that can name files, without a "
                f'leading dot, slashes and colons (got {modality!r})'
            )
    # The folder needs to hold exactly these.
    known = find_modalities(str(folder)) if folder.is_dir() else []
    others = [feature_file(m) for m in known if m not in modalities]
    if others:
        raise FileExistsError(
            f"'{folder}' holds {others}, which would be read as features of "
            f"'data' besides {modalities}: remove them, or choose another "
            f'folder'
        )
