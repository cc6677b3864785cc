from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import EdgeType, OptTensor

from diffmm_geo.ops import SparseMatrix, spmm
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.training.config import TrainingConfig
from diffmm_geo.training.trainer import Trainer
from diffmm_geo.utils.checks import check_int


class _Propagation(torch.nn.Module):
    # What LGConv computes. Its backward pass would sort the adjacency in each
    # step anew.
    def forward(
        self,
        x: Tensor,
        matrix: SparseMatrix,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        return spmm(matrix, x)


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig(TrainingConfig):
    r"""The settings of :class:`LightGCNTrainer`. The regularisation is that
    of :class:`~torch_geometric.nn.models.LightGCN`: over the embeddings of
    the batch, divided by its size.

    Args:
        embedding_dim (int, optional): The size of embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers.
            (default: :obj:`2`)
    """

    reg_weight: float = 1e-4
    embedding_dim: int = 64
    num_layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('embedding_dim', self.embedding_dim)
        check_int('num_layers', self.num_layers)


class LightGCNTrainer(Trainer):
    r"""Trains PyG's own :class:`~torch_geometric.nn.models.LightGCN` under
    the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline.

    Args:
        data (HeteroData): The user-item graph; see
            :class:`~diffmm_geo.training.Trainer`.
        config (LightGCNConfig, optional): The settings.
            (default: :class:`LightGCNConfig` with its defaults)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import LightGCNConfig, LightGCNTrainer
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> trainer = LightGCNTrainer(data, LightGCNConfig(num_epochs=2, k=3))
        >>> history = trainer.fit()
        >>> user_emb, item_emb = trainer.embeddings()
        >>> user_emb.size(), item_emb.size()
        (torch.Size([4, 64]), torch.Size([6, 64]))
    """

    config: LightGCNConfig
    model: LightGCN

    def __init__(
        self,
        data: HeteroData,
        config: LightGCNConfig | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = LightGCNConfig.of(config)
        super().__init__(data, c, edge_type, device)
        self.model = LightGCN(
            self.num_users + self.num_items,
            c.embedding_dim,
            c.num_layers,
            normalize=False,  # `_joint_graph` has done so.
        ).to(self.device)
        for n in range(c.num_layers):
            self.model.convs[n] = _Propagation()
        self.optimizer = self.adam(self.model.parameters(), c.lr)
        self._joint = self._joint_graph()

    def _joint_graph(self) -> SparseMatrix:
        # Users first. Normalised once, where LGConv would do so in each step.
        lists = ItemLists.distinct_items(
            self.edge_index, self.num_users, self.num_items
        )
        user, item = lists.row, lists.item + self.num_users
        num_nodes = self.num_users + self.num_items
        (row, col), value = gcn_norm(
            torch.stack([torch.cat([user, item]), torch.cat([item, user])]),
            num_nodes=num_nodes,
            add_self_loops=False,
        )
        return SparseMatrix.from_coo(row, col, value, (num_nodes, num_nodes))

    def train_epoch(self) -> dict[str, float]:
        self.model.train()
        with self.phase('recommend'):
            return self.train_on_triples(self.optimizer, self._loss)

    def _loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        emb = self.model.get_embedding(self._joint)
        positive = positive + self.num_users
        negative = negative + self.num_users
        loss: Tensor = self.model.recommendation_loss(
            (emb[user] * emb[positive]).sum(dim=-1),
            (emb[user] * emb[negative]).sum(dim=-1),
            node_id=torch.cat([user, positive, negative]),
            lambda_reg=self.config.reg_weight,
        )
        return loss.view(1)

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        emb = self.model.get_embedding(self._joint)
        return emb[: self.num_users], emb[self.num_users :]
