from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Embedding, Linear
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.training.mf_trainer import MF, MFConfig, MFTrainer
from diffmm_geo.utils.checks import check_int, check_number
from diffmm_geo.utils.features import modality_features


@dataclass(frozen=True, kw_only=True)
class VBPRConfig(MFConfig):
    r"""The settings of :class:`VBPRTrainer`.

    Args:
        feature_dim (int, optional): The size of projected features.
            (default: :obj:`64`)
        feature_reg_weight (float, optional): The weight of the squared norm
            of the projection of features and of their bias, which the
            paper's experiments do not regularise. (default: :obj:`0.0`)
    """

    feature_dim: int = 64
    feature_reg_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('feature_dim', self.feature_dim)
        check_number('feature_reg_weight', self.feature_reg_weight, 0.0)


class VBPR(MF):
    r"""Matrix factorisation with features of items

    .. math::
        s_{ui} = \beta_i + {\boldsymbol{\gamma}_u}^{\top}
        \boldsymbol{\gamma}_i + {\boldsymbol{\theta}_u}^{\top} \mathbf{E}
        \mathbf{f}_i + {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i

    (without terms that are the same for all items of a user). It is the
    product of :math:`[\boldsymbol{\gamma}_u, \boldsymbol{\theta}_u, 1]` and
    :math:`[\boldsymbol{\gamma}_i, \mathbf{E} \mathbf{f}_i, \beta_i +
    {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i]`.

    Args:
        num_users (int): The number of users.
        feature (torch.Tensor): The features :math:`\mathbf{f}_i` of all
            items.
        embedding_dim (int): The size of embeddings.
        feature_dim (int): The size of projected features.
    """

    feature: Tensor

    def __init__(
        self,
        num_users: int,
        feature: Tensor,
        embedding_dim: int,
        feature_dim: int,
    ) -> None:
        torch.nn.Module.__init__(self)
        num_items, channels = feature.size()
        self.user_emb = Embedding(num_users, embedding_dim)
        self.item_emb = Embedding(num_items, embedding_dim)
        self.user_taste = Embedding(num_users, feature_dim)
        self.item_bias = Embedding(num_items, 1)
        self.projection = Linear(channels, feature_dim, bias=False)
        self.feature_bias = Linear(channels, 1, bias=False)
        self.register_buffer('feature', feature, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        torch.nn.init.xavier_uniform_(self.user_taste.weight)
        torch.nn.init.zeros_(self.item_bias.weight)
        torch.nn.init.xavier_uniform_(self.projection.weight)
        torch.nn.init.zeros_(self.feature_bias.weight)

    def _user(self, emb: Tensor, taste: Tensor) -> Tensor:
        return torch.cat([emb, taste, torch.ones_like(emb[:, :1])], dim=-1)

    def _item(self, emb: Tensor, bias: Tensor, feature: Tensor) -> Tensor:
        bias = bias + self.feature_bias(feature)
        return torch.cat([emb, self.projection(feature), bias], dim=-1)

    def forward(self) -> tuple[Tensor, Tensor]:
        return (
            self._user(self.user_emb.weight, self.user_taste.weight),
            self._item(
                self.item_emb.weight, self.item_bias.weight, self.feature
            ),
        )

    def triple_embeddings(
        self,
        user: Tensor,
        positive: Tensor,
        negative: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        users = self.user_emb(user), self.user_taste(user)
        positives, negatives = (
            (self.item_emb(item), self.item_bias(item))
            for item in (positive, negative)
        )
        return (
            self._user(*users),
            self._item(*positives, self.feature[positive]),
            self._item(*negatives, self.feature[negative]),
            torch.cat([*users, *positives, *negatives], dim=-1),
        )


class VBPRTrainer(MFTrainer):
    r"""Trains the model of the `"VBPR: Visual Bayesian Personalized Ranking
    from Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_ paper under
    the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline. The features of an item are those of all its modalities, each
    scaled to unit length, side by side.

    Args:
        data (HeteroData): The user-item graph with item features
            :obj:`x_{m}`; see :class:`~diffmm_geo.training.Trainer`.
        config (VBPRConfig, optional): The settings.
            (default: :class:`VBPRConfig` with its defaults)
        modalities (list[str], optional): The modalities to use, all that the
            items have if not given. (default: :obj:`None`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import VBPRConfig, VBPRTrainer
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> data['item'].x_image = torch.randn(6, 16)
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> trainer = VBPRTrainer(data, VBPRConfig(num_epochs=2, k=3))
        >>> [record['epoch'] for record in trainer.fit()]
        [1, 2]
    """

    config: VBPRConfig
    model: VBPR

    def __init__(
        self,
        data: HeteroData,
        config: VBPRConfig | None = None,
        modalities: Sequence[str] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        self._modalities = modalities
        c = VBPRConfig.of(config)
        super().__init__(data, c, edge_type, device)

    @property
    def data_dict(self) -> dict[str, Tensor]:
        return {**super().data_dict, 'feature': self.model.feature}

    def _make_model(self, data: HeteroData) -> MF:
        features = modality_features(
            data[self.edge_type[2]], self.num_items, self._modalities
        )
        dtype = torch.get_default_dtype()
        return VBPR(
            self.num_users,
            torch.cat(
                [unit_rows(x.to(dtype)) for x in features.values()],
                dim=-1,
            ),
            self.config.embedding_dim,
            self.config.feature_dim,
        )

    def _loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        bpr, reg = super()._loss(user, positive, negative)
        if self.config.feature_reg_weight > 0:
            reg = reg + self.config.feature_reg_weight * sum(
                lin.weight.square().sum()
                for lin in (self.model.projection, self.model.feature_bias)
            )
        return torch.stack([bpr, reg])
