from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.scorers.interaction_scorer import (
    MAX_EXPONENT,
    InteractionScorer,
    power,
)
from diffmm_geo.utils.checks import check_number


class Popularity(InteractionScorer):
    r"""The weighted number of interactions of an item, the same for every user:

    .. math::
        s_{ui} = \sum_v d_v^{-a} x_{vi}

    The weight of a user depends on the user's number of interactions
    :math:`d_v`. A higher exponent :math:`a` gives less weight to users with
    many interactions.

    Args:
        edge_index (torch.Tensor): The observed interactions; see
            :class:`InteractionScorer`.
        num_users (int): The number of users.
        num_items (int): The number of items.
        user_exponent (float, optional): The exponent :math:`a` in
            :math:`[0, 2]`. With one, all users count the same.
            (default: :obj:`0.0`)

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If a number or an index is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import Popularity
        >>> edge_index = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> Popularity(edge_index, 2, 3)(torch.tensor([0]))
        tensor([[0., 2., 1.]])
        >>> Popularity(edge_index, 2, 3, user_exponent=1.0)(torch.tensor([0]))
        tensor([[0.0000, 1.5000, 0.5000]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        user_exponent: float = 0.0,
    ) -> None:
        super().__init__(edge_index, num_users, num_items)
        self.user_exponent = check_number(
            'user_exponent', user_exponent, 0.0, MAX_EXPONENT
        )
        scale = power(self.user_degree, -self.user_exponent).view(-1, 1)
        self._popularity = spmm(self.item_user, scale).view(-1)

    def score(self, user_index: Tensor) -> Tensor:
        return self._popularity.expand(user_index.numel(), -1)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'user_exponent={self.user_exponent})'
        )
