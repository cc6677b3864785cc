import torch
from torch import Tensor

from diffmm_geo.utils.checks import check_edge_index, check_index, check_int


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
        key = torch.unique(edge_index[0] * num_items + edge_index[1])
        user = key.div(num_items, rounding_mode='floor')
        count = torch.bincount(user, minlength=num_users)
        self._start = count.cumsum(0) - count
        place = torch.arange(key.numel(), device=key.device) - self._start[user]
        self.num_items, self._num_left = num_items, num_items - count
        # For each observed item, its user's number of smaller items that are
        # not observed, in keys that ascend over users.
        self._free_before = key - place

    def has_negatives(self, users: Tensor) -> Tensor:
        r"""Whether users have an item that they have not interacted with."""
        return self._num_left[users] > 0

    def sample(self, users: Tensor) -> Tensor:
        r"""One negative item for each entry of :obj:`users`.

        Shapes:
            - **users:** :math:`(B)`
            - **output:** :math:`(B)`

        Raises:
            ValueError: If a user is out of range or has interacted with all
                items.
        """
        num_users, device = self._num_left.numel(), self._num_left.device
        users = check_index('users', users, num_users, device)
        num_left = self._num_left[users]
        if bool((num_left == 0).any()):
            raise ValueError(
                "'users' needs users with an item that they "
                'have not interacted with (got one with none)'
            )
        place = torch.randint(2**62, users.size(), device=device) % num_left
        # As many observed items as come before this place are skipped.
        skipped = torch.searchsorted(
            self._free_before, users * self.num_items + place, right=True
        )
        return place + skipped - self._start[users]
