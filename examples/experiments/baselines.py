r"""Baselines without graphs: matrix factorization (MF) and VBPR."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Embedding, Linear
from torch_geometric.data import HeteroData

from diffmm_geo.tasks import Task
from diffmm_geo.training import TrainingConfig
from diffmm_geo.utils.features import modality_features

OBSERVED = ('user', 'interacts', 'item')


class MF(torch.nn.Module):
    r"""The matrix factorization of the `"BPR: Bayesian Personalized Ranking
    from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper.
    """

    def __init__(self, num_users: int, num_items: int, dim: int = 64) -> None:
        super().__init__()
        self.user_emb = Embedding(num_users, dim)
        self.item_emb = Embedding(num_items, dim)
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.user_emb.weight, self.item_emb.weight

    def loss(
        self, batch: Tensor, reg_weight: float = 1e-4
    ) -> dict[str, Tensor]:
        r"""The terms of users, positive and negative items :math:`(3, B)`."""
        user, positive, negative = batch
        users, items = self.user_emb(user), self.item_emb
        rows = users, items(positive), items(negative)
        reg = torch.cat(rows, dim=-1).square().sum() / user.numel()
        return {'bpr': bpr_loss(*rows), 'reg': reg_weight * reg}


class VBPR(torch.nn.Module):
    r"""The model of the `"VBPR: Visual Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_ paper

    .. math::
        s_{ui} = \beta_i + {\boldsymbol{\gamma}_u}^{\top}
        \boldsymbol{\gamma}_i + {\boldsymbol{\theta}_u}^{\top} \mathbf{E}
        \mathbf{f}_i + {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i

    without the terms that are constant for a user. The score is the product of
    :math:`[\boldsymbol{\gamma}_u, \boldsymbol{\theta}_u, 1]` and
    :math:`[\boldsymbol{\gamma}_i, \mathbf{E} \mathbf{f}_i, \beta_i +
    {\boldsymbol{\beta}'}^{\top} \mathbf{f}_i]`.
    """

    feature: Tensor

    def __init__(
        self,
        num_users: int,
        feature: Tensor,
        dim: int = 64,
        feature_dim: int = 64,
    ) -> None:
        super().__init__()
        num_items, channels = feature.size()
        self.user_emb = Embedding(num_users, dim)
        self.item_emb = Embedding(num_items, dim)
        self.user_taste = Embedding(num_users, feature_dim)
        self.item_bias = Embedding(num_items, 1)
        self.projection = Linear(channels, feature_dim, bias=False)
        self.feature_bias = Linear(channels, 1, bias=False)
        self.register_buffer('feature', feature, persistent=False)
        for module in (self.user_emb, self.item_emb, self.user_taste):
            torch.nn.init.xavier_uniform_(module.weight)
        torch.nn.init.zeros_(self.item_bias.weight)
        torch.nn.init.xavier_uniform_(self.projection.weight)
        torch.nn.init.zeros_(self.feature_bias.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        user = self._user(self.user_emb.weight, self.user_taste.weight)
        item = self.item_emb.weight, self.item_bias.weight
        return user, self._item(*item, self.feature)

    def loss(
        self,
        batch: Tensor,
        reg_weight: float = 1e-4,
        feature_reg_weight: float = 0.0,
    ) -> dict[str, Tensor]:
        r"""The terms of users, positive and negative items :math:`(3, B)`."""
        user, *items = batch
        users = self.user_emb(user), self.user_taste(user)
        pairs = [(self.item_emb(i), self.item_bias(i)) for i in items]
        rows = [
            self._item(*pair, self.feature[i]) for pair, i in zip(pairs, items)
        ]
        used = torch.cat([*users, *pairs[0], *pairs[1]], dim=-1)
        reg = reg_weight * (used.square().sum() / user.numel())
        if feature_reg_weight > 0:
            reg = reg + feature_reg_weight * sum(
                lin.weight.square().sum()
                for lin in (self.projection, self.feature_bias)
            )
        return {'bpr': bpr_loss(self._user(*users), *rows), 'reg': reg}

    def _user(self, emb: Tensor, taste: Tensor) -> Tensor:
        return torch.cat([emb, taste, torch.ones_like(emb[:, :1])], dim=-1)

    def _item(self, emb: Tensor, bias: Tensor, feature: Tensor) -> Tensor:
        bias = bias + self.feature_bias(feature)
        return torch.cat([emb, self.projection(feature), bias], dim=-1)


def bpr_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    margin = (user * positive).sum(dim=-1) - (user * negative).sum(dim=-1)
    return -F.logsigmoid(margin).mean()


@dataclass(frozen=True, kw_only=True)
class MFConfig(TrainingConfig):
    r""":obj:`reg_weight` weighs the squared norm of the batch's embeddings,
    divided by the batch size.
    """

    reg_weight: float = 1e-4
    embedding_dim: int = 64


@dataclass(frozen=True, kw_only=True)
class VBPRConfig(MFConfig):
    r""":obj:`feature_reg_weight` weighs the squared norm of the projection and
    of the bias of features, which the paper does not regularize.
    """

    feature_dim: int = 64
    feature_reg_weight: float = 0.0


class BPRTask(Task):
    r"""Trains a model on (user, positive, negative) triples."""

    loss_names = ('bpr', 'reg')

    def __init__(
        self,
        data: HeteroData,
        config: MFConfig,
        device: torch.device | str = 'cpu',
        modalities: Sequence[str] | None = None,
    ) -> None:
        super().__init__(data, config, OBSERVED, device)
        c = config
        self.weights = {'reg_weight': c.reg_weight}
        with self.random_state.entered():
            self.model: Any = self._make_model(data, modalities)
        self.model.to(self.device)
        self.reset_optimizers()

    def _make_model(
        self, data: HeteroData, modalities: Sequence[str] | None
    ) -> torch.nn.Module:
        c = self.config
        if not isinstance(c, VBPRConfig):
            return MF(self.num_users, self.num_items, c.embedding_dim)
        self.weights['feature_reg_weight'] = c.feature_reg_weight
        x_dict = modality_features(data['item'], self.num_items, modalities)
        feature = torch.cat(
            [F.normalize(x.float()) for x in x_dict.values()], dim=-1
        )
        return VBPR(self.num_users, feature, c.embedding_dim, c.feature_dim)

    @property
    def data_dict(self) -> dict[str, Tensor]:
        return {**super().data_dict, **dict(self.model.named_buffers())}

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.loss(batch, **self.weights)
        return losses

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        user, item = self.model()
        return user.detach(), item.detach()
