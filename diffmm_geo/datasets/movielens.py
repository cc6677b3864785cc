import os.path as osp

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.utils.checksum import sha256sum

from ._download import extract_member, pip_download
from ._table import read_columns
from ._tfidf import text_features
from ._user_item_data import SPLITS, distinct_edges, user_item_data
from ._user_item_dataset import UserItemDataset
from .split_interactions import split_interactions


class MovieLens100K(UserItemDataset):
    r"""The MovieLens 100K dataset from the `"The MovieLens Datasets: History
    and Context" <https://doi.org/10.1145/2827872>`_ paper. The files come from
    the wheel of the `RecBole <https://recbole.io>`_ library
    (:obj:`recbole==1.2.1`), which :obj:`pip` downloads. The wheel is verified
    by its published SHA-256, and is neither installed nor run.

    Each rating is an interaction. Users and items are numbered from zero by
    ascending ID. :func:`~diffmm_geo.datasets.split_interactions` holds a tenth
    of each user's interactions out for validation, and a tenth for testing, at
    random with seed :obj:`0`.

    The features of movies:

    * :obj:`"text"`: the title with its release year, as tf-idf of words and
      character n-grams, reduced by a truncated SVD.
    * :obj:`"genre"`: multi-hot genres, in alphabetical order.

    For printing, the lists :obj:`data.item_title` and :obj:`data.item_genre`
    hold the title, *e.g.*, :obj:`"Toy Story (1995)"`, and the genres of each
    item. They are not in :obj:`data['item']`, since PyG's loaders fail on
    lists with one entry per node.

    Args:
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"text"` and :obj:`"genre"`. (default: :obj:`None`, both)
        transform (callable, optional): A transform to apply to the graph on
            every access. (default: :obj:`None`)
        pre_transform (callable, optional): A transform to apply to the graph
            before it is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to process the raw files again,
            which otherwise happens only if they have changed.
            (default: :obj:`False`)

    **STATS:**

    .. csv-table::
        :header: #users; #items; #train; #val; #test; #channels
        :delim: ;

        943; 1,682; 79,926; 10,037; 10,037; text 64, genre 19
    """

    requirement = 'recbole==1.2.1'
    wheel = 'recbole-1.2.1-py3-none-any.whl'
    sha256 = '9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407'
    folder = 'recbole/dataset_example/ml-100k'
    interaction_files = ('ml-100k.inter', 'ml-100k.item', 'ml-100k.user')
    known_modalities = ('text', 'genre')

    @property
    def raw_file_names(self) -> list[str]:
        return list(self.interaction_files)

    def download(self) -> None:
        wheel = osp.join(self.raw_dir, self.wheel)
        if not osp.exists(wheel):  # Put there by hand, it needs no network.
            pip_download(self.requirement, wheel)
        sha256 = sha256sum(wheel)
        if sha256 != self.sha256:
            raise ValueError(
                f"'{wheel}' is not the published file: expected SHA-256 "
                f'{self.sha256}, got {sha256}'
            )
        for name, path in zip(self.raw_file_names, self.raw_paths):
            if not osp.exists(path):
                extract_member(wheel, f'{self.folder}/{name}', path)

    def read_raw(self) -> HeteroData:
        inter_path, item_path, user_path = self.raw_paths

        user_column, item_column = ('user_id', 'uint32'), ('item_id', 'uint32')
        (user_ids,) = read_columns(user_path, [user_column])
        names = ('movie_title', 'release_year', 'class')
        item_ids, titles, years, genres = read_columns(
            item_path, [item_column, *((name, 'string') for name in names)]
        )
        order = np.argsort(item_ids)
        user_ids, item_ids = np.sort(user_ids), item_ids[order]
        # Two movies have no release year.
        item_title = [
            f'{title} ({year})' if year.isdigit() else title
            for title, year in zip(titles[order], years[order])
        ]
        item_genre = [genre.split() for genre in genres[order]]

        users, items = read_columns(inter_path, [user_column, item_column])
        user = _to_index(inter_path, users, user_ids, user_path)
        item = _to_index(inter_path, items, item_ids, item_path)
        make = {
            'text': lambda: text_features(item_title),
            'genre': lambda: _genre_features(item_genre),
        }
        data = user_item_data(
            inter_path,
            len(user_ids),
            len(item_ids),
            {modality: make[modality]() for modality in self.modalities},
            {SPLITS[0]: distinct_edges(user, item)},
        )
        data = split_interactions(data)
        data.item_title = item_title
        data.item_genre = [', '.join(genre) for genre in item_genre]
        return data


def _to_index(
    path: str, values: np.ndarray, ids: np.ndarray, ids_path: str
) -> np.ndarray:
    known = np.isin(values, ids)
    if not known.all():
        raise ValueError(
            f"'{path}': expected IDs of '{ids_path}', got {values[~known][0]}"
        )
    return np.searchsorted(ids, values)


def _genre_features(genres: list[list[str]]) -> Tensor:
    from sklearn.preprocessing import MultiLabelBinarizer

    return torch.from_numpy(MultiLabelBinarizer().fit_transform(genres)).float()
