from __future__ import annotations

from torch import Tensor

from diffmm_geo.nn.models.feature_scaler import FeatureScaler
from diffmm_geo.ops import spmm
from diffmm_geo.ops.product import matmul
from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.scorers.interaction_scorer import InteractionScorer
from diffmm_geo.utils.checks import check_matrix


class FeatureCosine(InteractionScorer):
    r"""The cosine of an item's features and the sum of the normalized features
    of the user's items:

    .. math::
        s_{ui} = \cos \Big( \sum_{j \in \mathcal{N}(u)}
        \frac{\mathbf{x}^{\prime}_j}{\| \mathbf{x}^{\prime}_j \|},
        \mathbf{x}^{\prime}_i \Big)

    Each channel of the standardized features :math:`\mathbf{x}^{\prime}` has
    zero mean and unit variance. Items without interactions get scores, too.
    Items without features (rows of zeros) score zero, and users without
    interactions score all items zero.

    Args:
        edge_index (torch.Tensor): The observed interactions; see
            :class:`InteractionScorer`.
        x (torch.Tensor): The item features :math:`\mathbf{x}`.
        num_users (int): The number of users.

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **x:** :math:`(I, C)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If a number, an index or a shape is wrong, or features are
            not finite.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import FeatureCosine
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> x = torch.tensor([[1.0], [3.0], [7.0], [9.0]])
        >>> FeatureCosine(edge_index, x, num_users=2)(torch.tensor([0]))
        tensor([[ 1.,  1., -1., -1.]])
    """

    def __init__(self, edge_index: Tensor, x: Tensor, num_users: int) -> None:
        x = check_matrix('x', x).detach()
        if x.size(0) == 0:
            raise ValueError("'x' needs at least one row (got none)")
        super().__init__(edge_index, num_users, x.size(0))
        scaler = FeatureScaler(x.size(1)).to(x.device)
        self.item_emb = unit_rows(scaler.fit(x)(x)).to(self.device)
        self.user_emb = unit_rows(spmm(self.user_item, self.item_emb))

    def score(self, user_index: Tensor) -> Tensor:
        return matmul(self.user_emb[user_index], self.item_emb.t())
