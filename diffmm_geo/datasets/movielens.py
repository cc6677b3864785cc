import os.path as osp
import re
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.checks import MAX_SEED, check_int, check_number
from diffmm_geo.utils.checksum import sha256sum

from ._download import extract_member, pip_download
from ._edges import unique_edges
from ._hold_out import hold_out
from ._table import read_columns
from ._tfidf import tfidf, truncated_svd
from ._user_item_dataset import DataTransform, UserItemDataset


class MovieLens100K(UserItemDataset):
    r"""The MovieLens 100K dataset from the `"The MovieLens Datasets: History
    and Context" <https://doi.org/10.1145/2827872>`_ paper, with facts about
    its movies from the `"KB4Rec: A Data Set for Linking Knowledge Bases with
    Recommender Systems" <https://arxiv.org/abs/1807.11141>`_ paper. The files
    come from the wheel of the `RecBole <https://recbole.io>`_ library
    (:obj:`recbole==1.2.1`), which :obj:`pip` downloads. The wheel is verified
    by its published SHA-256, and is neither installed nor run.

    Each rating is an interaction. Users and items are numbered from zero by
    ascending ID. For each user with :math:`n` interactions, a random split
    moves :math:`\lfloor n / 10 + 1 / 2 \rfloor` interactions to validation and
    the same number to testing. If :math:`n < 5`, this number is zero. The split
    depends only on :obj:`split_seed`, not on the order of the files or the
    global random state.

    The features of movies:

    * :obj:`"text"`: the title with its release year, as tf-idf of words and
      character n-grams, reduced by a truncated SVD.
    * :obj:`"genre"`: multi-hot genres, in alphabetical order.
    * :obj:`"knowledge"`: facts, *e.g.*, actors, directors and subjects, as
      tf-idf of (relation, entity) pairs, reduced by a truncated SVD. 86 movies
      that share no fact with another movie have zero rows.

    .. warning::

        The published links between movies and facts, :obj:`ml-100k.link`, use
        the numbering of MovieLens 1M. With the MovieLens 1M numbers of 19
        well-known animated movies, all 19 linked entities are animated movies.
        With the MovieLens 100K numbers of its 42 animated movies, only 3 linked
        entities are animated movies. Therefore, :obj:`"knowledge"` mostly
        describes other movies and carries almost no signal. Leave it out of
        experiments.

    For printing, the lists :obj:`data.item_title` and :obj:`data.item_genre`
    hold the title, *e.g.*, :obj:`"Toy Story (1995)"`, and the genres of each
    item. They are not in :obj:`data['item']`, since PyG's loaders fail on
    lists with one entry per node.

    Args:
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"text"`, :obj:`"genre"` and :obj:`"knowledge"`.
            (default: :obj:`("text", "genre", "knowledge")`)
        min_rating (float, optional): The lowest rating (1 to 5) that counts as
            an interaction. All users and items are kept.
            (default: :obj:`None`)
        split_seed (int, optional): The seed of the random split.
            (default: :obj:`0`)
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

        943; 1,682; 79,926; 10,037; 10,037; text 64, genre 19, knowledge 64
    """

    requirement = 'recbole==1.2.1'
    wheel = 'recbole-1.2.1-py3-none-any.whl'
    sha256 = '9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407'
    folder = 'recbole/dataset_example/ml-100k'
    known_modalities = ('text', 'genre', 'knowledge')

    def __init__(
        self,
        root: str,
        modalities: Sequence[str] = ('text', 'genre', 'knowledge'),
        min_rating: float | None = None,
        split_seed: int = 0,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        if min_rating is not None:
            min_rating = check_number('min_rating', min_rating)
        self.min_rating = min_rating
        self.split_seed = check_int('split_seed', split_seed, 0, MAX_SEED)
        super().__init__(
            root, modalities, transform, pre_transform, force_reload
        )

    @property
    def raw_file_names(self) -> list[str]:
        return [
            f'ml-100k.{name}'
            for name in ['inter', 'item', 'kg', 'link', 'user']
        ]

    @property
    def processed_file_names(self) -> str:
        name = super().processed_file_names
        return f'rating={self.min_rating}+seed={self.split_seed}+{name}'

    def download(self) -> None:
        wheel = osp.join(self.raw_dir, self.wheel)
        with tempfile.TemporaryDirectory(dir=self.raw_dir) as folder:
            # A wheel put there by hand needs no network.
            if not osp.exists(wheel):
                try:
                    wheel = pip_download(self.requirement, self.wheel, folder)
                except ConnectionError as error:
                    raise ConnectionError(
                        f"Could not download '{self.wheel}' with the raw "
                        f'files. Get it by hand with `pip download --no-deps '
                        f"{self.requirement}` and put it in '{self.raw_dir}'. "
                        f'{error}'
                    ) from error
            sha256 = sha256sum(wheel)
            if sha256 != self.sha256:
                raise ValueError(
                    f"'{wheel}' is not the published file: expected SHA-256 "
                    f'{self.sha256}, got {sha256}'
                )
            for name, path in zip(self.raw_file_names, self.raw_paths):
                if not osp.exists(path):
                    extract_member(wheel, f'{self.folder}/{name}', path)

    def process(self) -> None:
        inter_path, item_path, _, _, user_path = self.raw_paths

        (user_ids,) = read_columns(user_path, {'user_id:token': 'uint32'})
        item_ids, titles, years, genres = read_columns(
            item_path,
            {
                'item_id:token': 'uint32',
                'movie_title:token_seq': 'string',
                'release_year:token': 'string',
                'class:token_seq': 'string',
            },
        )
        for path, ids in ((user_path, user_ids), (item_path, item_ids)):
            if len(np.unique(ids)) != len(ids):
                raise ValueError(
                    f"'{path}': expected distinct IDs, got repeated ones"
                )
        order = np.argsort(item_ids)
        user_ids, item_ids = np.sort(user_ids), item_ids[order]
        edges = self._read_edges(inter_path, user_ids, item_ids)
        if edges.shape[1] == 0:
            raise ValueError(
                f"'min_rating' is expected to leave interactions in "
                f"'{inter_path}', got none with {self.min_rating}"
            )

        # Two movies have no release year.
        item_title = [
            f'{title} ({year})' if year.isdigit() else title
            for title, year in zip(titles[order], years[order])
        ]
        item_genre = [genre.split() for genre in genres[order]]
        make = {
            'text': lambda: _text_features(item_title),
            'genre': lambda: _genre_features(item_genre),
            'knowledge': lambda: self._knowledge_features(item_ids),
        }
        data = self.build(
            len(user_ids),
            len(item_ids),
            random_split(edges, len(user_ids), self.split_seed),
            {modality: make[modality]() for modality in self.modalities},
        )
        data.item_title = item_title
        data.item_genre = [', '.join(genre) for genre in item_genre]
        self.save_processed(data)

    def _read_edges(
        self, path: str, user_ids: np.ndarray, item_ids: np.ndarray
    ) -> np.ndarray:
        users, items, ratings = read_columns(
            path,
            {
                'user_id:token': 'uint32',
                'item_id:token': 'uint32',
                'rating:float': 'double',
            },
        )
        user = _to_index(path, users, user_ids, "a user of 'ml-100k.user'")
        item = _to_index(path, items, item_ids, "an item of 'ml-100k.item'")
        if self.min_rating is not None:
            mask = ratings >= self.min_rating
            user, item = user[mask], item[mask]
        return unique_edges(user, item, len(item_ids))

    def _knowledge_features(self, item_ids: np.ndarray) -> Tensor:
        kg_path, link_path = self.raw_paths[2:4]

        items, entities = read_columns(
            link_path, {'item_id:token': 'uint32', 'entity_id:token': 'string'}
        )
        linked = _to_index(
            link_path, items, item_ids, "an item of 'ml-100k.item'"
        )
        facts: dict[str, set[str]] = {entity: set() for entity in entities}

        # Each fact of a movie also has an entry that starts at the movie.
        names = ('head_id:token', 'relation_id:token', 'tail_id:token')
        columns = read_columns(kg_path, dict.fromkeys(names, 'string'))
        for head, relation, tail in zip(*columns):
            if head in facts:
                facts[head].add(f'{relation} {tail}')

        documents: list[list[str]] = [[] for _ in item_ids]
        for i, entity in zip(linked, entities):
            documents[i] = sorted(facts[entity])
        return truncated_svd(tfidf(documents), channels=64)


def random_split(
    edges: np.ndarray, num_users: int, seed: int
) -> list[np.ndarray]:
    r"""Splits interactions 80:10:10 for each user. They are sorted by user."""
    # The stream of `RandomState` is stable across versions of NumPy.
    key = np.random.RandomState(seed).random_sample((edges.shape[1],))
    count = np.bincount(edges[0], minlength=num_users)
    number = (count + 5) // 10
    masks = hold_out(edges[0], key, number, number)
    return [edges[:, mask] for mask in masks]


def _to_index(
    path: str, values: np.ndarray, ids: np.ndarray, expected: str
) -> np.ndarray:
    known = np.isin(values, ids)
    if not known.all():
        raise ValueError(
            f"'{path}': expected {expected}, got {values[~known][0]}"
        )
    return np.searchsorted(ids, values)


def _text_features(titles: list[str]) -> Tensor:
    documents = []
    for title in titles:
        words = re.findall(r'\w+', title.lower())
        tokens = list(words)
        for word in words:
            # N-grams mark the start and the end of words, as in fastText.
            word = f'<{word}>'
            for n in range(3, 6):
                grams = range(len(word) - n + 1)
                tokens += [word[i : i + n] for i in grams]
        documents.append(tokens)
    return truncated_svd(tfidf(documents), channels=64)


def _genre_features(genres: list[list[str]]) -> Tensor:
    names = sorted({name for genre in genres for name in genre})
    out = torch.zeros(len(genres), max(len(names), 1))
    for i, genre in enumerate(genres):
        out[i, [names.index(name) for name in genre]] = 1
    return out
