import re
from collections.abc import Sequence

from torch_geometric.data import HeteroData

from diffmm_geo.utils.checks import MAX_COUNT

from ._modality_files import read_features
from ._table import read_columns
from ._user_item_data import SPLITS, distinct_edges, user_item_data
from ._user_item_dataset import DataTransform, UserItemDataset


def check_name(name: str) -> str:
    r"""Checks the name of a file without its extension."""
    if not isinstance(name, str) or re.fullmatch(r'[\w.-]+', name) is None:
        raise ValueError(
            f"'name' needs to be the name of a file without its extension "
            f'(got {name!r})'
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
    compare metrics with MMRec's, load the dataset with
    :func:`~diffmm_geo.datasets.load_dataset` and :obj:`drop_cold_users=True`.

    Args:
        root (str): The root directory of the dataset.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        modalities (list[str], optional): The modalities to load.
            (default: :obj:`None`, all in :obj:`root/raw`)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.
    """

    format = 'the MMRec toolbox (https://github.com/enoche/MMRec)'

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        self.name = check_name(name)
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
