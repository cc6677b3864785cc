from functools import cached_property

import torch
from torch import Tensor

from diffmm_geo.utils.checks import (
    check_edge_index,
    check_index,
    check_int,
    check_values,
)

# Afterwards, users with nearly all items draw from the few that are left.
MAX_ROUNDS = 8


class NegativeSampler:
    r"""Draws negative items for many users at once. Each item is drawn
    uniformly from the items that its user has not interacted with.

    Args:
        edge_index (torch.Tensor): The observed interactions, row 0 users,
            row 1 items.
        num_users (int): The number of users.
        num_items (int): The number of items.

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`

    Example:
        >>> import torch
        >>> from diffmm_geo.training import NegativeSampler
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> sampler = NegativeSampler(edge_index, num_users=2, num_items=3)
        >>> sampler.sample(torch.tensor([0, 0]))  # Only item 2 is left.
        tensor([2, 2])
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
    ) -> None:
        num_users = check_int('num_users', num_users)
        num_items = check_int('num_items', num_items)
        edge_index = check_edge_index(
            'edge_index', edge_index, num_users, num_items
        )
        check_values('edge_index', edge_index)
        self.num_items = num_items
        self._observed = torch.unique(edge_index[0] * num_items + edge_index[1])
        count = torch.bincount(self._observed // num_items, minlength=num_users)
        self._count = count
        self._complete = count >= num_items

    def has_negatives(self, users: Tensor) -> Tensor:
        r"""Whether users have an item that they have not interacted with."""
        return ~self._complete[users]

    def sample(self, users: Tensor) -> Tensor:
        r"""One negative item for each entry of :obj:`users`.

        Shapes:
            - **users:** :math:`(B)`
            - **output:** :math:`(B)`

        Raises:
            ValueError: If a user is out of range or has interacted with all
                items.
        """
        users = check_index(
            'users', users, self._complete.numel(), self._complete.device
        )
        if bool(self._complete[users].any()):
            raise ValueError(
                "'users' needs users with an item that they "
                'have not interacted with (got one with none)'
            )
        items = torch.randint(self.num_items, users.size(), device=users.device)
        left = self._is_observed(users, items).nonzero().view(-1)
        for _ in range(MAX_ROUNDS):
            if left.numel() == 0:
                return items
            again = torch.randint(
                self.num_items, left.size(), device=users.device
            )
            items[left] = again
            left = left[self._is_observed(users[left], again)]
        items[left] = self._from_complement(users[left])
        return items

    def _from_complement(self, users: Tensor) -> Tensor:
        place = torch.randint(2**62, users.size(), device=users.device)
        place %= self.num_items - self._count[users]
        # As many observed items as come before this place are skipped.
        found = torch.searchsorted(
            self._free_before, users * self.num_items + place, right=True
        )
        return place + found - (self._count.cumsum(0) - self._count)[users]

    @cached_property
    def _free_before(self) -> Tensor:
        r"""For each observed item, its user's number of smaller items that are
        not observed, in keys that ascend over users.
        """
        user = self._observed // self.num_items
        start = self._count.cumsum(0) - self._count
        place = torch.arange(user.numel(), device=user.device) - start[user]
        out: Tensor = self._observed - place
        return out

    def _is_observed(self, users: Tensor, items: Tensor) -> Tensor:
        if self._observed.numel() == 0:
            return torch.zeros_like(users, dtype=torch.bool)
        key = users * self.num_items + items
        position = torch.searchsorted(self._observed, key)
        position.clamp_(max=self._observed.numel() - 1)
        found: Tensor = self._observed[position] == key
        return found
