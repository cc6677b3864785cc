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

from diffmm_geo.ops.fold_in import fold_in_weight, normalized_sum
from diffmm_geo.ops.ranking import fill_index, search_index, topk_among
from diffmm_geo.sparse import CSR
from diffmm_geo.utils import tensor_file
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_k,
    check_matrix,
    describe,
)
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import NodeIds, decode_ids, encode_ids, is_raw

__all__ = ['Recommender']

OPTIONAL = ('exclude_edge_index', 'raw_user_id', 'raw_item_id')

#: Users or items, as indices or as identifiers.
Nodes = Tensor | np.ndarray | Sequence[int] | Sequence[str]


class Recommender:
    r"""Recommends items by the product of user and item embeddings, without
    the model that computed them.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        exclude_edge_index (torch.Tensor, optional): The interactions not to
            recommend, usually the observed ones. (default: :obj:`None`)
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
        device, num_channels = user_emb.device, user_emb.size(1)
        check_matrix('item_emb', item_emb, None, num_channels, device=device)
        dtype = torch.promote_types(user_emb.dtype, item_emb.dtype)
        self.user_emb = user_emb.detach().to(dtype)
        self.item_emb = item_emb.detach().to(dtype)
        if exclude_edge_index is not None:
            exclude_edge_index = check_edge_index(
                'exclude_edge_index', exclude_edge_index, *self.size
            ).to(device)
        self.exclude_edge_index: Tensor | None = exclude_edge_index
        self._users, self._items = (
            NodeIds(name, ids, size, device)
            for name, ids, size in (
                ('raw_user_id', raw_user_id, self.size[0]),
                ('raw_item_id', raw_item_id, self.size[1]),
            )
        )
        self.raw_user_id = self._users.ids
        self.raw_item_id = self._items.ids
        self.index = index
        if index is not None:
            fill_index(index, self.item_emb)

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.user_emb.size(0), self.item_emb.size(0)

    @cached_property
    def exclude(self) -> CSR:
        r"""The items not to recommend to each user."""
        edge_index = self.exclude_edge_index
        if edge_index is None:
            edge_index = self.item_emb.new_empty(2, 0, dtype=torch.long)
        return CSR.from_edge_index(edge_index, self.size, coalesce=True)

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
        k = check_k(k, self.size[1])
        query, exclude = self.user_emb, self.exclude
        if user_index is not None:
            row = self._users.index('user_index', user_index)
            query, exclude = query[row], exclude.take(row)
        num_unknown = int((exclude.rowptr.diff() == 0).sum())
        if num_unknown > 0 and self.exclude.nnz > 0:
            warnings.warn(
                f"{num_unknown} of {exclude.size[0]} users in 'user_index' "
                f"have no interactions in 'exclude_edge_index'. If they have "
                f'none at all, their items are arbitrary: pass the items that '
                f"they like, or none, to 'Recommender.fold_in'.",
                stacklevel=3,
            )
        found = self._search(query, exclude, k, candidates, exclude_items)
        return self._output(*found, return_scores, is_raw(user_index))

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
        k, device = check_k(k, self.size[1]), self.item_emb.device
        if isinstance(item_lists, str) or not isinstance(item_lists, Sequence):
            raise ValueError(
                f"'item_lists' needs to be a list of lists of items "
                f'(got {describe(item_lists)})'
            )
        lists = [self._items.index('item_lists', x) for x in item_lists]
        item = torch.cat(
            [torch.empty(0, dtype=torch.long, device=device), *lists]
        )
        count = torch.tensor([x.numel() for x in lists], device=device).long()
        row = torch.arange(len(lists), device=device).repeat_interleave(count)
        size = len(lists), self.size[1]
        liked = CSR.from_edge_index(
            torch.stack([row, item]), size, coalesce=True
        )
        query = normalized_sum(liked, self.item_emb) @ self._fold_weight
        query = query.to(self.user_emb.dtype)
        index, score = self._search(query, liked, k, candidates, exclude_items)
        unknown = (liked.rowptr.diff() == 0).nonzero().view(-1)
        if unknown.numel() > 0:
            index[unknown], popularity = self._popular(
                k, self._kept(candidates, exclude_items)
            )
            score[unknown] = popularity.to(score.dtype)
        raw = any(map(is_raw, item_lists))
        return self._output(index, score, return_scores, raw)

    @cached_property
    def _fold_weight(self) -> Tensor:
        return fold_in_weight(self.exclude, self.user_emb, self.item_emb)

    def _popular(self, k: int, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.exclude.nnz == 0:
            raise ValueError(
                "'item_lists' needs at least one item in each list, as "
                "popularity is unknown without 'exclude_edge_index' "
                '(got an empty list)'
            )
        count = self.exclude.col.bincount(minlength=self.size[1]).float()
        return topk_among(kept, count.new_ones(1, 1), count.view(-1, 1), k)

    def _output(
        self, index: Tensor, score: Tensor, return_scores: bool, raw: bool
    ) -> Any:
        out: Any = index
        ids = self.raw_item_id
        if raw and ids is not None:
            out = [[ids[n] for n in row if n >= 0] for row in index.tolist()]
        return (out, score) if return_scores else out

    def _kept(
        self, candidates: Nodes | None, exclude_items: Nodes | None
    ) -> Tensor | None:
        r"""Whether to rank each item, or :obj:`None` to rank all items."""
        if candidates is None and exclude_items is None:
            return None
        device = self.item_emb.device
        kept = torch.full((self.size[1],), candidates is None, device=device)
        if candidates is not None:
            kept[self._items.index('candidates', candidates)] = True
        if exclude_items is not None:
            kept[self._items.index('exclude_items', exclude_items)] = False
        return kept

    def _search(
        self,
        query: Tensor,
        exclude: CSR,
        k: int,
        candidates: Nodes | None,
        exclude_items: Nodes | None,
    ) -> tuple[Tensor, Tensor]:
        kept = self._kept(candidates, exclude_items)
        if self.index is None or candidates is not None:
            return topk_among(kept, query, self.item_emb, k, exclude)
        return search_index(self.index, kept, query, self.item_emb, k, exclude)

    def save(self, path: str | Path) -> None:
        r"""Writes :obj:`user_emb`, :obj:`item_emb` and, if given,
        :obj:`exclude_edge_index`, :obj:`raw_user_id` and :obj:`raw_item_id`.
        Identifiers are stored as the bytes of JSON lists. A failure leaves an
        earlier file unchanged.

        Args:
            path (str or Path): The :obj:`.npz` file, which NumPy can read. It
                stores bfloat16 as float32.

        Raises:
            ValueError: If the file has another suffix.
        """
        path = check_path('path', path)
        check_choice('path', path.suffix, ['.npz'])
        tensors = {'user_emb': self.user_emb, 'item_emb': self.item_emb}
        if self.exclude_edge_index is not None:
            tensors['exclude_edge_index'] = self.exclude_edge_index
        for name in OPTIONAL[1:]:
            ids = getattr(self, name)
            if ids is not None:
                tensors[name] = encode_ids(ids)
        with atomic_path(os.fspath(path)) as temporary:
            tensor_file.write_npz(temporary, tensors)

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
            ValueError: If the file is damaged or holds something else.
        """
        path = check_path('path', path)
        tensors = tensor_file.read_npz(path)
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
            f'{self.__class__.__name__}({self.size[0]}, {self.size[1]}, '
            f'index={type(self.index).__name__ if self.index else None})'
        )
