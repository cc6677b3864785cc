import re
from collections.abc import Sequence

import numpy as np

from diffmm_geo.utils.checks import check_bool

from ._edges import unique_edges
from ._modalities import feature_file
from ._npy import load_features
from ._table import read_columns
from ._user_item_dataset import DataTransform, UserItemDataset


def check_name(name: str) -> str:
    r"""Checks the name of a file without its extension."""
    if not isinstance(name, str) or re.fullmatch(r'[\w.-]+', name) is None:
        raise ValueError(
            f"'name' is expected to be the name of a file without its "
            f'extension, got {name!r}'
        )
    return name


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

    Users without training interactions keep their held-out ones. MMRec does not
    evaluate such users (its option :obj:`filter_out_cod_start_users`). To
    compare metrics with MMRec's, pass :obj:`drop_cold_users=True`.

    Args:
        root (str): The root directory of the dataset.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        modalities (list[str], optional): The modalities to load.
            (default: :obj:`None`, all in :obj:`root/raw`)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.
        drop_cold_users (bool, optional): Whether to drop the held-out
            interactions of users without training interactions, as MMRec does.
            The users stay. (default: :obj:`False`)
    """

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
        drop_cold_users: bool = False,
    ) -> None:
        self.name = check_name(name)
        self.drop_cold_users = check_bool('drop_cold_users', drop_cold_users)
        self.find_raw_files(
            root,
            [f'{name}.inter'],
            'the MMRec toolbox (https://github.com/enoche/MMRec)',
        )
        super().__init__(
            root, modalities, transform, pre_transform, force_reload
        )

    @property
    def raw_file_names(self) -> list[str]:
        features = [feature_file(modality) for modality in self.modalities]
        return [f'{self.name}.inter', *features]

    @property
    def processed_file_names(self) -> str:
        variant = 'warm+' if self.drop_cold_users else ''
        return f'{self.name}+{variant}{super().processed_file_names}'

    def process(self) -> None:
        path = self.raw_paths[0]
        columns = {'userID': 'uint32', 'itemID': 'uint32', 'x_label': 'uint8'}
        user, item, label = read_columns(path, columns)
        if len(user) == 0:
            raise ValueError(f"'{path}': expected interactions, got none")
        if label.max() > 2:
            raise ValueError(
                f"'{path}': expected x_label to be 0, 1 or 2, got {label.max()}"
            )

        features = {
            modality: load_features(path)
            for modality, path in zip(self.modalities, self.raw_paths[1:])
        }
        num_items = int(item.max()) + 1
        for feature_path, x in zip(self.raw_paths[1:], features.values()):
            first = next(iter(features.values()))
            if x.size(0) < num_items or x.size(0) != first.size(0):
                raise ValueError(
                    f"'{feature_path}': expected one row for each item, as "
                    f'many as in the other features and at least {num_items} '
                    f"(the largest item in '{path}' plus one), got {x.size(0)}"
                )
        if features:
            num_items = x.size(0)

        splits = [
            unique_edges(user[label == i], item[label == i], num_items)
            for i in range(3)
        ]
        if self.drop_cold_users:
            train = splits[0]
            splits[1:] = [x[:, np.isin(x[0], train[0])] for x in splits[1:]]
        data = self.build(int(user.max()) + 1, num_items, splits, features)
        self.save_processed(data)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.name})'
