import torch
from torch import Tensor

from diffmm_geo.scorers.interaction_scorer import InteractionScorer, power


class ItemCosine(InteractionScorer):
    r"""The item-based neighborhood method of the `"Item-Based Top-N
    Recommendation Algorithms" <https://doi.org/10.1145/963770.963776>`_ paper,
    with the cosine similarity of items and all items as neighbors:

    .. math::
        \mathbf{s}_u = \mathbf{x}_u \mathbf{S} \qquad
        S_{ij} = \frac{\mathbf{x}_{:i}^{\top} \mathbf{x}_{:j}}
        {\| \mathbf{x}_{:i} \| \, \| \mathbf{x}_{:j} \|}
        \quad (i \neq j) \qquad S_{ii} = 0

    Users with many interactions dominate the similarities. Users without
    interactions score all items zero. The similarities are never stored: a
    block of users takes two sparse products.

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
        >>> from diffmm_geo.scorers import ItemCosine
        >>> edge_index = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> ItemCosine(edge_index, 2, 3)(torch.tensor([1]))
        tensor([[0.0000, 0.0000, 0.7071]])
    """

    @property
    def values_per_user(self) -> int:
        return self.num_users + self.num_items

    def score(self, user_index: Tensor) -> Tensor:
        scale = power(self.item_degree, -0.5).view(-1, 1)
        mass = self.items_of(user_index) * scale
        return (self.hop(mass, torch.ones_like(self.user_degree)) * scale).t()
