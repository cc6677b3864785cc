from torch import Tensor

from diffmm_geo.scorers.interaction_scorer import InteractionScorer


class Popularity(InteractionScorer):
    r"""The number of interactions of an item, the same for every user:

    .. math::
        s_{ui} = \sum_v x_{vi}

    Args:
        edge_index (torch.Tensor): The observed interactions; see
            :class:`InteractionScorer`.
        num_users (int): The number of users.
        num_items (int): The number of items.

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
    """

    def score(self, user_index: Tensor) -> Tensor:
        return self.item_degree.expand(user_index.numel(), -1)
