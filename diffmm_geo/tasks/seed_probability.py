import torch
from torch import Tensor

from diffmm_geo.sparse import CSR


class SeedProbability:
    r"""The probability that a batch of :math:`B` triples contains a user or an
    item. Triples are drawn as in :class:`~diffmm_geo.tasks.Task`: observed
    interactions without replacement, each with a negative item.

    A node :math:`v` has :math:`d_v` of the :math:`E` interactions. With
    probability :math:`\binom{E - d_v}{B} / \binom{E}{B}`, the batch contains
    none of them. In this case, an item :math:`i` differs from the negative item
    of a triple with probability :math:`1 - q_i`, where

    .. math::
        q_i = \frac{1}{E - d_i} \sum_{u \notin \mathcal{N}(i)}
        \frac{d_u}{|\mathcal{I}| - |\mathcal{N}(u)|}

    (each of the :math:`d_u` interactions draws from the items that :math:`u`
    has not interacted with). Triples are assumed to be independent.

    Args:
        positives (torch.Tensor): The interactions to draw triples from, row 0
            users, row 1 items.
        observed (torch.Tensor): The interactions that are never negative.
        num_users (int): The number of users.
        num_items (int): The number of items.

    Shapes:
        - **positives:** :math:`(2, E)`
        - **observed:** :math:`(2, E^{\prime})`
        - **output:** :math:`(|\mathcal{U}|)` and :math:`(|\mathcal{I}|)`

    Example:
        >>> import torch
        >>> from diffmm_geo.training import SeedProbability
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> probability = SeedProbability(edge_index, edge_index, 2, 3)
        >>> user, item = probability(batch_size=1)
        >>> user  # Two of three interactions are of user 0.
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """

    def __init__(
        self,
        positives: Tensor,
        observed: Tensor,
        num_users: int,
        num_items: int,
    ) -> None:
        user, item = positives
        self.num_positives = user.numel()
        count = torch.bincount(user, minlength=num_users).double()
        self._count = (
            count,
            torch.bincount(item, minlength=num_items).double(),
        )
        lists = CSR.from_edge_index(
            observed, (num_users, num_items), coalesce=True
        )
        user, item = lists.row, lists.col
        left = num_items - torch.bincount(user, minlength=num_users)
        rate = count / left.clamp(min=1)  # No triples where nothing is left.
        never = torch.zeros_like(self._count[1])
        never.index_add_(0, item, rate[user])
        others = (self.num_positives - self._count[1]).clamp(min=1)
        self._negative = ((rate.sum() - never) / others).clamp(0, 1)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, batch_size: int) -> tuple[Tensor, Tensor]:
        r"""The probabilities of users and of items."""
        if batch_size not in self._known:
            absent_user, absent_item = (
                self._absent(count, batch_size) for count in self._count
            )
            absent_item = absent_item * (1 - self._negative) ** batch_size
            self._known[batch_size] = (1 - absent_user, 1 - absent_item)
        return self._known[batch_size]

    def _absent(self, count: Tensor, batch_size: int) -> Tensor:
        r"""The hypergeometric probability to draw none of :obj:`count`."""
        num = self.num_positives
        left = (num - count - batch_size).clamp(min=0)
        size = count.new_tensor(float(num))
        log = (
            torch.lgamma(size - count + 1)
            - torch.lgamma(left + 1)
            - torch.lgamma(size + 1)
            + torch.lgamma(size - batch_size + 1)
        )
        absent = log.clamp(max=0).exp()
        return absent.masked_fill(num - count < batch_size, 0.0)
