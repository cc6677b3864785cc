import torch
from torch import Tensor
from torch.nn import Embedding, Linear

from diffmm_geo.nn.loss.bpr_loss import bpr_loss
from diffmm_geo.utils.checks import check_int, check_matrix


class VBPR(torch.nn.Module):
    r"""The VBPR model of the `"VBPR: Visual Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_ paper, which adds
    item features to matrix factorization

    .. math::
        s_{ui} = \beta_i + {\boldsymbol{\gamma}_u}^{\top}
        \boldsymbol{\gamma}_i + {\boldsymbol{\theta}_u}^{\top} \mathbf{E}
        \mathbf{f}_i + {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i

    where terms that are constant for a user are left out. The score is the
    product of the embeddings
    :math:`[\boldsymbol{\gamma}_u, \boldsymbol{\theta}_u, 1]` and
    :math:`[\boldsymbol{\gamma}_i, \mathbf{E} \mathbf{f}_i, \beta_i +
    {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i]`.

    Args:
        num_users (int): The number of users.
        feature (torch.Tensor): The item features :math:`\mathbf{f}_i`. They are
            not part of the :obj:`state_dict`.
        embedding_dim (int, optional): The size :math:`d` of
            :math:`\boldsymbol{\gamma}_u` and :math:`\boldsymbol{\gamma}_i`.
            (default: :obj:`64`)
        feature_dim (int, optional): The size :math:`d'` of
            :math:`\boldsymbol{\theta}_u`. (default: :obj:`64`)

    Shapes:
        - **feature:** :math:`(|\mathcal{I}|, F)`
        - **output:** user embeddings :math:`(|\mathcal{U}|, d + d' + 1)` and
          item embeddings :math:`(|\mathcal{I}|, d + d' + 1)`

    Raises:
        ValueError: If an argument is out of range, or :obj:`feature` is not a
            finite matrix.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import VBPR
        >>> model = VBPR(4, torch.randn(6, 16), embedding_dim=8, feature_dim=4)
        >>> user_emb, item_emb = model()
        >>> user_emb.size(), item_emb.size()
        (torch.Size([4, 13]), torch.Size([6, 13]))
    """

    feature: Tensor

    def __init__(
        self,
        num_users: int,
        feature: Tensor,
        embedding_dim: int = 64,
        feature_dim: int = 64,
    ) -> None:
        super().__init__()
        num_users = check_int('num_users', num_users)
        embedding_dim = check_int('embedding_dim', embedding_dim)
        feature_dim = check_int('feature_dim', feature_dim)
        num_items, channels = check_matrix('feature', feature).size()
        self.user_emb = Embedding(num_users, embedding_dim)
        self.item_emb = Embedding(num_items, embedding_dim)
        self.user_taste = Embedding(num_users, feature_dim)
        self.item_bias = Embedding(num_items, 1)
        self.projection = Linear(channels, feature_dim, bias=False)
        self.feature_bias = Linear(channels, 1, bias=False)
        self.register_buffer('feature', feature, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)
        torch.nn.init.xavier_uniform_(self.user_taste.weight)
        torch.nn.init.zeros_(self.item_bias.weight)
        torch.nn.init.xavier_uniform_(self.projection.weight)
        torch.nn.init.zeros_(self.feature_bias.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        return (
            self._user(self.user_emb.weight, self.user_taste.weight),
            self._item(
                self.item_emb.weight, self.item_bias.weight, self.feature
            ),
        )

    def loss(
        self,
        edge_label_index: Tensor,
        neg_item: Tensor,
        *,
        reg_weight: float = 1e-4,
        feature_reg_weight: float = 0.0,
    ) -> dict[str, Tensor]:
        r"""The terms of the training objective of a batch: the BPR loss and
        the regularization.

        Args:
            edge_label_index (torch.Tensor): Users and positive items.
            neg_item (torch.Tensor): A negative item for each positive item.
            reg_weight (float, optional): The weight of the squared norm of
                the batch's embeddings and biases, divided by the batch size.
                (default: :obj:`1e-4`)
            feature_reg_weight (float, optional): The weight of the squared
                norm of :math:`\mathbf{E}` and :math:`\boldsymbol{\beta}'`.
                (default: :obj:`0.0`)

        Shapes:
            - **edge_label_index:** :math:`(2, B)`
            - **neg_item:** :math:`(B)`
            - **output:** scalars :obj:`"bpr"` and :obj:`"reg"`
        """
        user, positive = edge_label_index
        users = self.user_emb(user), self.user_taste(user)
        positives, negatives = (
            (self.item_emb(item), self.item_bias(item))
            for item in (positive, neg_item)
        )
        bpr = bpr_loss(
            self._user(*users),
            self._item(*positives, self.feature[positive]),
            self._item(*negatives, self.feature[neg_item]),
        )
        batch = torch.cat([*users, *positives, *negatives], dim=-1)
        reg = reg_weight * (batch.square().sum() / user.numel())
        if feature_reg_weight > 0:
            reg = reg + feature_reg_weight * sum(
                lin.weight.square().sum()
                for lin in (self.projection, self.feature_bias)
            )
        return {'bpr': bpr, 'reg': reg}

    def _user(self, emb: Tensor, taste: Tensor) -> Tensor:
        return torch.cat([emb, taste, torch.ones_like(emb[:, :1])], dim=-1)

    def _item(self, emb: Tensor, bias: Tensor, feature: Tensor) -> Tensor:
        bias = bias + self.feature_bias(feature)
        return torch.cat([emb, self.projection(feature), bias], dim=-1)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.user_emb.num_embeddings}, '
            f'{self.item_emb.num_embeddings}, '
            f'embedding_dim={self.user_emb.embedding_dim}, '
            f'feature_dim={self.user_taste.embedding_dim})'
        )
