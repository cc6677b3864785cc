r"""Recommendation from embeddings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn.pool.knn import KNNIndex

from diffmm_geo.ops import topk_items
from diffmm_geo.ops.bag import bag
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_k,
    check_matrix,
    describe,
)
from diffmm_geo.utils.node_ids import NodeIds, check_nodes, is_raw
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import decode_ids, encode_ids
from diffmm_geo.utils.reading import reading
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

__all__ = ['Recommender']

# The limit of FAISS.
MAX_NEIGHBORS = 2048
SUFFIXES = ('.npz', '.safetensors')
OPTIONAL = ('exclude_edge_index', 'raw_user_id', 'raw_item_id')
# `fold_in` adds this share of the mean variance to each channel's variance.
RIDGE = 1e-3

#: Users or items, as indices or as identifiers.
Nodes = Tensor | np.ndarray | Sequence[int] | Sequence[str]


class Recommender:
    r"""Recommends items by the product of user and item embeddings, without
    the model that computed them.

    .. code-block:: python

        from torch_geometric.nn import ApproxMIPSKNNIndex

        out = model(feature_dict, edge_index_dict)
        Recommender(out['user'], out['item'], edge_index).save('shop.npz')

        recommender = Recommender.load('shop.npz')
        recommender.recommend(torch.tensor([3, 5]), k=10)

        index = ApproxMIPSKNNIndex(
            num_cells=256, num_cells_to_visit=16, bits_per_vector=16
        )
        recommender = Recommender.load('shop.npz', index)

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        exclude_edge_index (torch.Tensor, optional): The interactions (row 0
            users, row 1 items) not to recommend, usually the observed ones.
            (default: :obj:`None`)
        index (KNNIndex, optional): An index for inner product search, such as
            PyG's :class:`~torch_geometric.nn.pool.MIPSKNNIndex` (exact) or
            :class:`~torch_geometric.nn.pool.ApproxMIPSKNNIndex`. Items are
            added to an empty index. It requires FAISS (the extra
            :obj:`faiss`), which searches in float32.
            (default: :obj:`None`, exact search over all scores)
        raw_user_id (list[str], optional): The identifiers of users, such as
            :obj:`data['user'].raw_id`. (default: :obj:`None`)
        raw_item_id (list[str], optional): The identifiers of items.
            (default: :obj:`None`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

    Raises:
        ValueError: If shapes or indices do not fit, embeddings are not
            finite, or the index holds other items or has another metric.

    Example:
        >>> import torch
        >>> from diffmm_geo.recommender import Recommender
        >>> user_emb, item_emb = torch.randn(4, 8), torch.randn(9, 8)
        >>> observed = torch.tensor([[0, 1], [2, 3]])
        >>> recommender = Recommender(user_emb, item_emb, observed)
        >>> recommender.recommend(torch.tensor([0, 1]), k=3).size()
        torch.Size([2, 3])
    """

    def __init__(
        self,
        user_emb: Tensor,
        item_emb: Tensor,
        exclude_edge_index: Tensor | None = None,
        index: KNNIndex | None = None,
        *,
        raw_user_id: Sequence[str] | None = None,
        raw_item_id: Sequence[str] | None = None,
    ) -> None:
        check_matrix('user_emb', user_emb)
        device = user_emb.device
        check_matrix(
            'item_emb', item_emb, None, user_emb.size(1), device=device
        )
        dtype = torch.promote_types(user_emb.dtype, item_emb.dtype)
        self.user_emb = user_emb.detach().to(dtype)
        self.item_emb = item_emb.detach().to(dtype)
        self.exclude_edge_index: Tensor | None = None
        self._exclude: CSR | None = None
        if exclude_edge_index is not None:
            self.exclude_edge_index = check_edge_index(
                'exclude_edge_index', exclude_edge_index, *self.size
            ).to(user_emb.device)
            self._exclude = CSR.from_edge_index(
                self.exclude_edge_index, self.size, coalesce=True
            )
        self._user_ids, self._item_ids = (
            None if ids is None else NodeIds(name, ids, size)
            for name, ids, size in (
                ('raw_user_id', raw_user_id, self.num_users),
                ('raw_item_id', raw_item_id, self.num_items),
            )
        )
        self.index = index
        if index is not None:
            self._check_index(index)

    @property
    def num_users(self) -> int:
        r"""The number of users."""
        return self.user_emb.size(0)

    @property
    def num_items(self) -> int:
        r"""The number of items."""
        return self.item_emb.size(0)

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.num_users, self.num_items

    def excluded(self, user_index: Tensor) -> CSR | None:
        r"""The items not to recommend to each of the given users, if any."""
        return None if self._exclude is None else self._exclude.take(user_index)

    @property
    def raw_user_id(self) -> list[str] | None:
        r"""The identifiers of users, if known."""
        return None if self._user_ids is None else self._user_ids.ids

    @property
    def raw_item_id(self) -> list[str] | None:
        r"""The identifiers of items, if known."""
        return None if self._item_ids is None else self._item_ids.ids

    @torch.no_grad()
    def recommend(
        self,
        user_index: Nodes | None = None,
        k: int = 20,
        return_scores: bool = False,
        candidates: Nodes | None = None,
        exclude_items: Nodes | None = None,
    ) -> Any:
        r"""The top-:math:`k` items of users. The index finds at most 2048
        items per user, including excluded items. Users who need more get an
        exact search. With :obj:`candidates`, all users get one. Items of equal
        scores come in no particular order.

        The embedding of a user without interactions is untrained, and the
        user's list is arbitrary. This method warns of users without
        interactions in :obj:`exclude_edge_index`; see :meth:`fold_in` for such
        users.

        Args:
            user_index (torch.Tensor, numpy.ndarray or list, optional): The
                users to recommend to, as indices or as :obj:`raw_user_id`.
                (default: :obj:`None`, all users)
            k (int, optional): The number of recommendations.
                (default: :obj:`20`)
            return_scores (bool, optional): Whether to return the scores, too.
                (default: :obj:`False`)
            candidates (torch.Tensor, numpy.ndarray or list, optional): The
                only items to rank, as indices or as :obj:`raw_item_id`.
                (default: :obj:`None`, all items)
            exclude_items (torch.Tensor, numpy.ndarray or list, optional): The
                items not to recommend to anybody, as indices or as
                :obj:`raw_item_id`. (default: :obj:`None`)

        Shapes:
            - **user_index:** :math:`(B)`
            - **output:** item indices :math:`(B, k)` by descending score,
              padded with :obj:`-1` if a user has fewer items left or an
              approximate index finds fewer. For users given as
              :obj:`raw_user_id`, one list of :obj:`raw_item_id` per user
              without padding, if item identifiers are known.
            - **scores:** :math:`(B, k)`, padded with :math:`-\infty`

        Raises:
            ValueError: If a user, an item or :obj:`k` is out of range.
        """
        k = check_k(k, self.num_items)
        query, exclude = self.user_emb, self._exclude
        if user_index is not None:
            row = check_nodes(
                'user_index',
                user_index,
                self.num_users,
                self._user_ids,
                query.device,
            )
            query = query[row]
            exclude = None if exclude is None else exclude.take(row)
        if exclude is not None and self._exclude is not None:
            num_unknown = int((exclude.rowptr.diff() == 0).sum())
            if num_unknown > 0 and self._exclude.nnz > 0:
                warnings.warn(
                    f"{num_unknown} of {exclude.size[0]} users in 'user_index' "
                    f"have no interactions in 'exclude_edge_index'. If they "
                    f'have none at all, their items are arbitrary: pass the '
                    f"items that they like, or none, to 'Recommender.fold_in'.",
                    stacklevel=3,
                )
        found = self._search(query, exclude, k, candidates, exclude_items)
        return self._output(found, return_scores, is_raw(user_index))

    @torch.no_grad()
    def fold_in(
        self,
        item_lists: Sequence[Nodes],
        k: int = 20,
        return_scores: bool = False,
        candidates: Nodes | None = None,
        exclude_items: Nodes | None = None,
    ) -> Any:
        r"""The top-:math:`k` items of users who are not in the graph, given
        the items that they like. These items are not recommended again. An
        empty list stands for a user of whom nothing is known. Such a user gets
        the most popular items in :obj:`exclude_edge_index`.

        The embedding of a user who likes the items :math:`\mathcal{I}_u` is

        .. math::
            \mathbf{e}_u = \mathbf{W} \sum_{i \in \mathcal{I}_u}
            \frac{\mathbf{e}_i}{\sqrt{|\mathcal{I}_u|}}

        where :math:`\mathbf{W}` is the ridge regression of the embeddings of
        users in the graph on the normalized sums of their items in
        :obj:`exclude_edge_index`. Without these, it is the identity.

        Args:
            item_lists (list): The items that each user likes, each a list,
                array or tensor of indices or of :obj:`raw_item_id`.
            k (int, optional): As in :meth:`recommend`. (default: :obj:`20`)
            return_scores (bool, optional): As in :meth:`recommend`.
                (default: :obj:`False`)
            candidates (torch.Tensor, numpy.ndarray or list, optional): As in
                :meth:`recommend`. (default: :obj:`None`)
            exclude_items (torch.Tensor, numpy.ndarray or list, optional): As
                in :meth:`recommend`. (default: :obj:`None`)

        Shapes:
            - **output**, **scores:** as in :meth:`recommend`. If a list holds
              :obj:`raw_item_id`, so does the output.

        Raises:
            ValueError: If an item or :obj:`k` is out of range, or a list is
                empty and popularity is unknown.
        """
        k, device = check_k(k, self.num_items), self.item_emb.device
        if isinstance(item_lists, str) or not isinstance(item_lists, Sequence):
            raise ValueError(
                f"'item_lists' needs to be a list of lists of items "
                f'(got {describe(item_lists)})'
            )
        lists = [
            check_nodes(
                'item_lists', items, self.num_items, self._item_ids, device
            )
            for items in item_lists
        ]
        row = torch.arange(len(lists), device=device).repeat_interleave(
            torch.tensor([x.numel() for x in lists], device=device).long()
        )
        none = torch.empty(0, dtype=torch.long, device=device)
        liked = CSR.from_edge_index(
            torch.stack([row, torch.cat([none, *lists])]),
            (len(lists), self.num_items),
            coalesce=True,
        )
        query = self._folded(liked) @ self._fold_weight
        found = self._search(
            query.to(self.user_emb.dtype), liked, k, candidates, exclude_items
        )
        rows = (liked.rowptr.diff() == 0).nonzero().view(-1)
        if rows.numel() > 0:
            popular = self._popular(rows.numel(), k, candidates, exclude_items)
            for out, x in zip(found, popular):
                out[rows] = x.to(out.dtype)
        return self._output(found, return_scores, any(map(is_raw, item_lists)))

    def _folded(self, liked: CSR) -> Tensor:
        r"""The normalized sum of the embeddings of each row's items."""
        count = liked.rowptr.diff().clamp(min=1).view(-1, 1)
        emb = self.item_emb
        return bag(liked, emb if emb.dtype == torch.double else emb.float()) / (
            count.sqrt()
        )

    @cached_property
    def _fold_weight(self) -> Tensor:
        size = self.item_emb.size(1)
        eye = torch.eye(size, dtype=torch.double, device=self.item_emb.device)
        if self._exclude is not None and self._exclude.nnz > 0:
            x = self._folded(self._exclude)
            gram = (x.t() @ x).double()
            ridge = RIDGE * gram.trace() / size
            if float(ridge) > 0:
                target = (x.t() @ self.user_emb.to(x.dtype)).double()
                eye = torch.linalg.solve(gram + ridge * eye, target)
        emb = self.item_emb
        return eye if emb.dtype == torch.double else eye.float()

    def _popular(
        self,
        num_users: int,
        k: int,
        candidates: Nodes | None,
        exclude_items: Nodes | None,
    ) -> tuple[Tensor, Tensor]:
        if self._exclude is None or self._exclude.nnz == 0:
            raise ValueError(
                "'item_lists' needs at least one item in each list, as "
                "popularity is unknown without 'exclude_edge_index' "
                '(got an empty list)'
            )
        count = self._exclude.col.bincount(minlength=self.num_items).float()
        one = Recommender(count.new_ones(1, 1), count.view(-1, 1))
        one._item_ids = self._item_ids
        found = one._search(one.user_emb, None, k, candidates, exclude_items)
        return found[0].expand(num_users, -1), found[1].expand(num_users, -1)

    def _output(
        self, found: tuple[Tensor, Tensor], return_scores: bool, raw: bool
    ) -> Any:
        index, score = found
        out: Any = index
        if raw and self._item_ids is not None:
            out = self._item_ids.lists(index)
        return (out, score) if return_scores else out

    def _kept(
        self, candidates: Nodes | None, exclude_items: Nodes | None
    ) -> Tensor | None:
        r"""The items to rank, or :obj:`None` to rank all items."""
        if candidates is None and exclude_items is None:
            return None
        kept = torch.full(
            (self.num_items,), candidates is None, device=self.item_emb.device
        )
        for name, items, value in (
            ('candidates', candidates, True),
            ('exclude_items', exclude_items, False),
        ):
            if items is not None:
                place = check_nodes(
                    name, items, self.num_items, self._item_ids, kept.device
                )
                kept[place] = value
        return kept.nonzero().view(-1)

    def _search(
        self,
        query: Tensor,
        exclude: CSR | None,
        k: int,
        candidates: Nodes | None,
        exclude_items: Nodes | None,
    ) -> tuple[Tensor, Tensor]:
        r"""The top items of each query, and their scores."""
        kept = self._kept(candidates, exclude_items)
        if exclude is None:
            none = torch.empty(2, 0, dtype=torch.long, device=query.device)
            exclude = CSR.from_edge_index(none, (query.size(0), self.num_items))
        if self.index is None or candidates is not None:
            return self._search_exactly(query, exclude, k, kept)
        left_out = torch.empty(0, dtype=torch.long, device=query.device)
        if kept is not None:
            mask = torch.ones(self.num_items, dtype=torch.bool)
            left_out = mask.to(kept.device).index_fill_(0, kept, False)
            left_out = left_out.nonzero().view(-1)
        out = query.new_empty(query.size(0), k, dtype=torch.long)
        scores = query.new_full((query.size(0), k), float('-inf'))
        length = exclude.rowptr.diff() + k + left_out.numel()
        few = length <= MAX_NEIGHBORS
        rows = (~few).nonzero().view(-1)
        out[rows], scores[rows] = self._search_exactly(
            query[rows], exclude.take(rows), k, kept
        )
        rows = few.nonzero().view(-1)
        if rows.numel() > 0:
            part = exclude.take(rows)
            links = torch.stack([part.row, part.col])
            places = torch.arange(rows.numel(), device=rows.device)
            more = torch.cartesian_prod(places, left_out).t()
            links = torch.cat([links, more.view(2, -1)], dim=1).unique(dim=1)
            found = self.index.search(
                query[rows].float(), k, links if links.numel() > 0 else None
            )
            assert isinstance(found.index, Tensor)
            out[rows] = found.index
            score = found.score.to(scores.dtype)
            scores[rows] = score.masked_fill(found.index < 0, float('-inf'))
        return out, scores

    def _search_exactly(
        self, query: Tensor, exclude: CSR, k: int, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if kept is None:
            return topk_items(
                query, self.item_emb, k, exclude=exclude, return_scores=True
            )
        out = query.new_full((query.size(0), k), -1, dtype=torch.long)
        scores = query.new_full((query.size(0), k), float('-inf'))
        num_kept = kept.numel()
        if num_kept == 0:
            return out, scores
        place = kept.new_full((self.num_items,), -1)
        place[kept] = torch.arange(num_kept, device=kept.device)
        edges = torch.stack([exclude.row, place[exclude.col]])
        part = CSR.from_edge_index(
            edges[:, edges[1] >= 0], (query.size(0), num_kept)
        )
        length = min(k, num_kept)
        index, score = topk_items(
            query,
            self.item_emb[kept],
            length,
            exclude=part,
            return_scores=True,
        )
        out[:, :length] = torch.where(index < 0, -1, kept[index])
        scores[:, :length] = score.to(scores.dtype)
        return out, scores

    def _check_index(self, index: KNNIndex) -> None:
        if not isinstance(index, KNNIndex):
            raise ValueError(
                f"'index' needs to be a KNNIndex of torch_geometric "
                f'(got {describe(index)})'
            )
        import faiss

        if index.numel == 0:
            index.add(self.item_emb.float())
        size = self.item_emb.size()
        if (index.numel, index.index.d) != size:
            raise ValueError(
                f"'index' needs to be empty or to hold {size[0]} items of "
                f'{size[1]} channels (got {index.numel} of {index.index.d})'
            )
        if index.index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(
                f"'index' needs inner products as its metric, such as "
                f'MIPSKNNIndex (got {type(index).__name__})'
            )

    def _ids(self) -> dict[str, list[str]]:
        ids = {'raw_user_id': self.raw_user_id, 'raw_item_id': self.raw_item_id}
        return {name: x for name, x in ids.items() if x is not None}

    def save(self, path: str | Path) -> None:
        r"""Writes :obj:`user_emb`, :obj:`item_emb` and, if given,
        :obj:`exclude_edge_index`, :obj:`raw_user_id` and :obj:`raw_item_id`.
        Identifiers are stored as the bytes of JSON lists. A failure leaves an
        earlier file unchanged.

        Args:
            path (str or Path): The :obj:`.safetensors` or :obj:`.npz` file.
                A :obj:`.npz` file stores bfloat16 as float32.

        Raises:
            ImportError: If the file is :obj:`.safetensors`, and safetensors
                is not installed.
            ValueError: If the file has another suffix.
        """
        path = check_path('path', path)
        suffix = _suffix(path)
        tensors = {'user_emb': self.user_emb, 'item_emb': self.item_emb}
        if self.exclude_edge_index is not None:
            tensors['exclude_edge_index'] = self.exclude_edge_index
        for name, ids in self._ids().items():
            tensors[name] = encode_ids(ids)
        with atomic_path(os.fspath(path)) as temporary:
            if suffix == '.npz':
                with open(temporary, 'wb') as file:
                    np.savez(file, **{k: _numpy(x) for k, x in tensors.items()})
            else:
                write_tensors(temporary, tensors)

    @classmethod
    def load(
        cls,
        path: str | Path,
        index: KNNIndex | None = None,
        device: torch.device | str = 'cpu',
    ) -> Recommender:
        r"""Reads a file written by :meth:`save`.

        Args:
            path (str or Path): The file.
            index (KNNIndex, optional): See :class:`Recommender`.
                (default: :obj:`None`)
            device (torch.device or str, optional): The device of tensors.
                (default: :obj:`'cpu'`)

        Raises:
            FileNotFoundError: If the file does not exist.
            ImportError: If the file is :obj:`.safetensors`, and safetensors
                is not installed.
            ValueError: If the file is damaged or holds something else.
        """
        path = check_path('path', path)
        suffix = _suffix(path)
        tensors = _read_npz(path) if suffix == '.npz' else read_tensors(path)
        names = {'user_emb', 'item_emb'}
        if not names <= tensors.keys() <= names | set(OPTIONAL):
            raise ValueError(
                f"'{path}' needs 'user_emb', 'item_emb' and optionally "
                f'{list(OPTIONAL)} (got {sorted(tensors)})'
            )
        try:
            content: dict[str, Any] = {
                name: decode_ids(name, x)
                if name.startswith('raw_')
                else x.to(device)
                for name, x in tensors.items()
            }
            return cls(**content, index=index)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from None

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'index={type(self.index).__name__ if self.index else None})'
        )


def _suffix(path: Path) -> str:
    suffix = path.suffix
    if suffix not in SUFFIXES:
        raise ValueError(
            f"'path' needs to end in one of {list(SUFFIXES)} (got '{path}')"
        )
    return suffix


def _numpy(x: Tensor) -> Any:
    x = x.cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _read_npz(path: Path) -> dict[str, Tensor]:
    with (
        reading(os.fspath(path), 'a whole .npz file of arrays'),
        np.load(path, allow_pickle=False) as arrays,
    ):
        return {name: torch.from_numpy(x) for name, x in arrays.items()}
