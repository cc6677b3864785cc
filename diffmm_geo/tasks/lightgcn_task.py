from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import EdgeType, OptTensor

from diffmm_geo.ops import spmm
from diffmm_geo.sparse import CSR, SparseMatrix
from diffmm_geo.tasks.config import LightGCNConfig
from diffmm_geo.tasks.task import Task
from diffmm_geo.utils.checks import check_type


class LightGCNTask(Task):
    r"""Trains PyG's :class:`~torch_geometric.nn.models.LightGCN` on (user,
    positive, negative) triples.

    Args:
        data, edge_type, device: As in :class:`~diffmm_geo.tasks.Task`.
        config (LightGCNConfig, optional): The settings.
            (default: :class:`~diffmm_geo.training.LightGCNConfig` with its
            defaults)
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
        c = LightGCNConfig() if config is None else config
        check_type('config', c, LightGCNConfig)
        super().__init__(data, c, edge_type, device)
        with self.random_state.entered():
            self.model = LightGCN(
                self.num_users + self.num_items,
                c.embedding_dim,
                c.num_layers,
                normalize=False,  # The joint graph is normalized already.
            ).to(self.device)
        for n in range(c.num_layers):
            self.model.convs[n] = _Propagation()
        self.reset_optimizers()
        self._joint = self._joint_graph()

    def move_data(self, device: torch.device) -> None:
        super().move_data(device)
        self._joint = self._joint_graph()

    def _joint_graph(self) -> SparseMatrix:
        # Users first. LGConv would normalize it in each step.
        lists = CSR.from_edge_index(
            self.edge_index, (self.num_users, self.num_items), coalesce=True
        )
        user, item = lists.row, lists.col + self.num_users
        num_nodes = self.num_users + self.num_items
        (row, col), value = gcn_norm(
            torch.stack([torch.cat([user, item]), torch.cat([item, user])]),
            num_nodes=num_nodes,
            add_self_loops=False,
        )
        return SparseMatrix.from_coo(row, col, value, (num_nodes, num_nodes))

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        emb = self.model.get_embedding(self._joint)
        user, positive, negative = batch
        positive = positive + self.num_users
        negative = negative + self.num_users
        loss = self.model.recommendation_loss(
            (emb[user] * emb[positive]).sum(dim=-1),
            (emb[user] * emb[negative]).sum(dim=-1),
            node_id=torch.cat([user, positive, negative]),
            lambda_reg=self.config.reg_weight,
        )
        return {'bpr': loss}

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        emb = self.model.get_embedding(self._joint)
        return emb[: self.num_users], emb[self.num_users :]


class _Propagation(torch.nn.Module):
    # What LGConv computes. Its backward pass would sort the adjacency in each
    # step anew.
    def forward(
        self, x: Tensor, matrix: SparseMatrix, edge_weight: OptTensor = None
    ) -> Tensor:
        return spmm(matrix, x)
