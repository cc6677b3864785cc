r"""Recommendation from embeddings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn.pool.knn import KNNIndex

from diffmm_geo.ops import topk_items
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_index,
    check_k,
    check_matrix,
    describe,
)
from diffmm_geo.utils.expecting import expecting
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

__all__ = ['Recommender']

# The limit of FAISS.
MAX_NEIGHBORS = 2048
SUFFIXES = ('.npz', '.safetensors')


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

    @torch.no_grad()
    def recommend(
        self,
        user_index: Tensor | None = None,
        k: int = 20,
    ) -> Tensor:
        r"""The top-:math:`k` items of users. The index finds at most 2048
        items per user, including excluded items. Users who need more get an
        exact search.

        Args:
            user_index (torch.Tensor, optional): The users to recommend to.
                (default: :obj:`None`, all users)
            k (int, optional): The number of recommendations.
                (default: :obj:`20`)

        Shapes:
            - **user_index:** :math:`(B)`
            - **output:** item indices :math:`(B, k)` by descending score,
              padded with :obj:`-1` if a user has fewer items left or an
              approximate index finds fewer

        Raises:
            ValueError: If a user or :obj:`k` is out of range.
        """
        k = check_k(k, self.num_items)
        query, exclude = self.user_emb, self._exclude
        if user_index is not None:
            user_index = check_index('user_index', user_index, self.num_users)
            user_index = user_index.to(query.device)
            query = query[user_index]
            exclude = None if exclude is None else exclude.take(user_index)
        if self.index is None:
            return topk_items(query, self.item_emb, k, exclude=exclude)

        if exclude is None:
            none = query.new_empty(2, 0, dtype=torch.long)
            exclude = CSR.from_edge_index(none, (query.size(0), self.size[1]))
        out = query.new_empty(query.size(0), k, dtype=torch.long)
        few = exclude.rowptr.diff() + k <= MAX_NEIGHBORS
        rows = (~few).nonzero().view(-1)
        out[rows] = topk_items(
            query[rows], self.item_emb, k, exclude=exclude.take(rows)
        )
        rows = few.nonzero().view(-1)
        if rows.numel() > 0:
            part = exclude.take(rows)
            links = torch.stack([part.row, part.col])
            found = self.index.search(
                query[rows].float(), k, links if links.numel() > 0 else None
            )
            assert isinstance(found.index, Tensor)
            out[rows] = found.index
        return out

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

    def save(self, path: str | Path) -> None:
        r"""Writes :obj:`user_emb`, :obj:`item_emb` and, if given,
        :obj:`exclude_edge_index`. A failure leaves an earlier file unchanged.

        Args:
            path (str or Path): The :obj:`.safetensors` or :obj:`.npz` file.
                The latter stores bfloat16 as float32.

        Raises:
            ImportError: If the file is :obj:`.safetensors`, and safetensors
                is not installed.
            ValueError: If the file has another suffix.
        """
        suffix = _suffix(path)
        tensors = {'user_emb': self.user_emb, 'item_emb': self.item_emb}
        if self.exclude_edge_index is not None:
            tensors['exclude_edge_index'] = self.exclude_edge_index
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
            device (torch.device or str, optional): The device of embeddings.
                (default: :obj:`'cpu'`)

        Raises:
            FileNotFoundError: If the file does not exist.
            ImportError: If the file is :obj:`.safetensors`, and safetensors
                is not installed.
            ValueError: If the file is damaged or holds something else.
        """
        suffix = _suffix(path)
        tensors = _read_npz(path) if suffix == '.npz' else read_tensors(path)
        names = {'user_emb', 'item_emb'}
        if not names <= tensors.keys() <= names | {'exclude_edge_index'}:
            raise ValueError(
                f"'{path}' needs 'user_emb', 'item_emb' and optionally "
                f"'exclude_edge_index' (got {sorted(tensors)})"
            )
        moved = {name: x.to(device) for name, x in tensors.items()}
        try:
            return cls(**moved, index=index)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from None

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'index={type(self.index).__name__ if self.index else None})'
        )


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(
            f"'path' needs to end in one of {list(SUFFIXES)} (got '{path}')"
        )
    return suffix


def _numpy(x: Tensor) -> Any:
    x = x.cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _read_npz(path: str | Path) -> dict[str, Tensor]:
    with (
        expecting(os.fspath(path), 'a whole .npz file of arrays') as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return {name: torch.from_numpy(x) for name, x in arrays.items()}
