from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from diffmm_geo.ops.device import block_size
from diffmm_geo.ops.topk.topk_scores import topk_scores
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_device,
    check_edge_index,
    check_index,
    check_int,
    check_k,
)

# Values per block of users on a CPU: 16 MiB in float32.
BLOCK_SIZE = 2**22


class Scorer(ABC):
    r"""The base class of all scorers. A scorer maps each user to a score of
    every item, :math:`\mathbf{s}_u \in \mathbb{R}^{I}`. It works in blocks of
    users to bound its memory. A subclass implements :meth:`score`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        device (torch.device, optional): The device of the scores.
            (default: :obj:`None`, the CPU)

    Shapes:
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`, finite, in single precision

    Raises:
        ValueError: If a number or a user is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import Scorer
        >>> class Newest(Scorer):
        ...     def score(self, user_index):
        ...         item = torch.arange(self.num_items, dtype=torch.float)
        ...         return item.expand(user_index.numel(), -1)
        >>> Newest(3, 4).recommend(torch.tensor([0, 2]), k=2)
        tensor([[3, 2],
                [3, 2]])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        device: torch.device | None = None,
    ) -> None:
        self.num_users = check_int('num_users', num_users)
        self.num_items = check_int('num_items', num_items)
        self.device = check_device('cpu' if device is None else device)

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.num_users, self.num_items

    @property
    def values_per_user(self) -> int:
        r"""The approximate number of values per user in :meth:`score`."""
        return self.num_items

    @property
    def needs_interactions(self) -> bool:
        r"""Whether the scores of a user without interactions are arbitrary, as
        those of untrained embeddings are.
        """
        return False

    @abstractmethod
    def score(self, user_index: Tensor) -> Tensor:
        r"""The scores of one block of users, whose indices are valid.

        Shapes:
            - **user_index:** :math:`(B)`
            - **output:** :math:`(B, I)`
        """

    @torch.no_grad()
    def __call__(self, user_index: Tensor) -> Tensor:
        user_index = self._checked(user_index)
        size = user_index.numel(), self.num_items
        out = torch.empty(size, dtype=torch.float, device=self.device)
        for rows in self._blocks(user_index):
            out[rows] = self.score(user_index[rows])
        return out

    @torch.no_grad()
    def recommend(
        self,
        user_index: Tensor | None = None,
        k: int = 20,
        exclude_edge_index: Tensor | None = None,
    ) -> Tensor:
        r"""The top-:math:`k` items of users. Warns of users whose items are
        arbitrary: those with the same score for all items, and if
        :attr:`needs_interactions`, those without any in
        :obj:`exclude_edge_index`. :class:`Popularity` recommends to them.

        Args:
            user_index (torch.Tensor, optional): The users to recommend to.
                (default: :obj:`None`, all users)
            k (int, optional): The number of recommendations.
                (default: :obj:`20`)
            exclude_edge_index (torch.Tensor, optional): The interactions (row 0
                users, row 1 items) not to recommend, usually the observed ones.
                (default: :obj:`None`)

        Shapes:
            - **user_index:** :math:`(B)`
            - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`
            - **output:** item indices :math:`(B, k)` by descending score,
              padded with :obj:`-1` if a user has fewer items left

        Raises:
            ValueError: If a user, an item or :obj:`k` is out of range.
        """
        k = check_k(k, self.num_items)
        if user_index is None:
            user_index = torch.arange(self.num_users)
        user_index = self._checked(user_index)
        exclude: CSR | None = None
        if exclude_edge_index is not None:
            exclude_edge_index = check_edge_index(
                'exclude_edge_index', exclude_edge_index, *self.size
            ).to(self.device)
            exclude = CSR.from_edge_index(
                exclude_edge_index, self.size, coalesce=True
            )
        out = user_index.new_empty(user_index.numel(), k)
        unknown = torch.zeros_like(user_index, dtype=torch.bool)
        # An empty `exclude_edge_index` tells nothing of users.
        if self.needs_interactions and exclude is not None and exclude.nnz > 0:
            unknown |= exclude.rowptr.diff()[user_index] == 0
        for rows in self._blocks(user_index):
            users = user_index[rows]
            excluded = None if exclude is None else exclude.take(users)
            score = self(users)
            low, high = score.aminmax(dim=1)
            unknown[rows] |= low == high
            out[rows] = topk_scores(score, k, excluded)
        num_unknown = int(unknown.sum())
        if num_unknown > 0 and self.num_items > 1:
            warnings.warn(
                f'The items of {num_unknown} of {unknown.numel()} users in '
                f"'user_index' are arbitrary, as the scorer knows no "
                f"interactions of theirs. Recommend to them by 'Popularity'.",
                stacklevel=3,
            )
        return out

    def _checked(self, user_index: Tensor) -> Tensor:
        index = check_index('user_index', user_index, self.num_users)
        return index.to(self.device)

    def _blocks(self, user_index: Tensor) -> Iterator[slice]:
        size = block_size(BLOCK_SIZE, self.device)
        height = max(1, size // self.values_per_user)
        for start in range(0, user_index.numel(), height):
            yield slice(start, start + height)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_users}, {self.num_items})'
