import torch
from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.scorers.interaction_scorer import InteractionScorer, power


class UserCosine(InteractionScorer):
    r"""The user-based neighborhood method of the `"An Algorithmic Framework for
    Performing Collaborative Filtering"
    <https://doi.org/10.1145/312624.312682>`_ paper, with the cosine similarity
    of users and all users as neighbors:

    .. math::
        \mathbf{s}_u = \sum_{v \neq u} \frac{\mathbf{x}_u^{\top} \mathbf{x}_v}
        {\| \mathbf{x}_u \| \, \| \mathbf{x}_v \|} \, \mathbf{x}_v

    Unlike in :class:`ItemCosine`, users with many interactions have little
    weight. Users without interactions score all items zero.

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
        >>> from diffmm_geo.scorers import UserCosine
        >>> edge_index = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> UserCosine(edge_index, 2, 3)(torch.tensor([1]))
        tensor([[0.0000, 0.7071, 0.7071]])
    """

    @property
    def values_per_user(self) -> int:
        return self.num_users + self.num_items

    def score(self, user_index: Tensor) -> Tensor:
        scale = power(self.user_degree, -0.5)
        similarity = spmm(self.user_item, self.items_of(user_index))
        similarity *= scale.view(-1, 1) * scale[user_index]
        rows = torch.arange(user_index.numel(), device=self.device)
        similarity[user_index, rows] = 0.0
        return spmm(self.item_user, similarity).t()
