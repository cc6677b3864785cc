from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Embedding
from torch_geometric.data import HeteroData
from torch_geometric.nn.models.lightgcn import BPRLoss
from torch_geometric.typing import EdgeType

from diffmm_geo.training.config import TrainingConfig
from diffmm_geo.training.trainer import Trainer
from diffmm_geo.utils.checks import check_int


@dataclass(frozen=True, kw_only=True)
class MFConfig(TrainingConfig):
    r"""The settings of :class:`MFTrainer`. The regularisation is that of
    :class:`~diffmm_geo.training.LightGCNConfig`: over the embeddings of the
    batch, divided by its size.

    Args:
        embedding_dim (int, optional): The size of embeddings.
            (default: :obj:`64`)
    """

    reg_weight: float = 1e-4
    embedding_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('embedding_dim', self.embedding_dim)


class MF(torch.nn.Module):
    r"""Matrix factorisation: an embedding for each user and item."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
    ) -> None:
        super().__init__()
        self.user_emb = Embedding(num_users, embedding_dim)
        self.item_emb = Embedding(num_items, embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        r"""The embeddings of users and items, whose products are scores."""
        return self.user_emb.weight, self.item_emb.weight

    def triple_embeddings(
        self,
        user: Tensor,
        positive: Tensor,
        negative: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""The embeddings of a batch, and all its parameters that are
        regularised, a row for each triple.
        """
        out = (
            self.user_emb(user),
            self.item_emb(positive),
            self.item_emb(negative),
        )
        return *out, torch.cat(out, dim=-1)


class MFTrainer(Trainer):
    r"""Trains matrix factorisation from the `"BPR: Bayesian Personalized
    Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper
    under the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline.

    Args:
        data (HeteroData): The user-item graph; see
            :class:`~diffmm_geo.training.Trainer`.
        config (MFConfig, optional): The settings.
            (default: :class:`MFConfig` with its defaults)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import MFConfig, MFTrainer
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> trainer = MFTrainer(data, MFConfig(num_epochs=2, k=3))
        >>> [record['epoch'] for record in trainer.fit()]
        [1, 2]
    """

    config: MFConfig
    model: MF

    def __init__(
        self,
        data: HeteroData,
        config: MFConfig | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = MFConfig.of(config)
        super().__init__(data, c, edge_type, device)
        self.model = self._make_model(data).to(self.device)
        self.optimizer = self.adam(self.model.parameters(), c.lr)
        self.bpr_loss = BPRLoss()

    def _make_model(self, data: HeteroData) -> MF:
        return MF(self.num_users, self.num_items, self.config.embedding_dim)

    def train_epoch(self) -> dict[str, float]:
        self.model.train()
        with self.phase('recommend'):
            return self.train_on_triples(
                self.optimizer, self._loss, ('bpr', 'reg')
            )

    def _loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        x_user, x_positive, x_negative, regularised = (
            self.model.triple_embeddings(user, positive, negative)
        )
        bpr = self.bpr_loss(
            (x_user * x_positive).sum(dim=-1),
            (x_user * x_negative).sum(dim=-1),
        )
        reg = regularised.square().sum() / user.numel()
        return torch.stack([bpr, self.config.reg_weight * reg])

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        user, item = self.model()
        return user.detach(), item.detach()
