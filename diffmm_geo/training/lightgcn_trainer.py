from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.tasks import LightGCNTask
from diffmm_geo.tasks.config import LightGCNConfig
from diffmm_geo.training.trainer import Trainer


class LightGCNTrainer(Trainer):
    r"""Trains PyG's own :class:`~torch_geometric.nn.models.LightGCN` under
    the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline.

    Args:
        data, config, edge_type, device: As in
            :class:`~diffmm_geo.tasks.LightGCNTask`. The default settings are
            :class:`LightGCNConfig` with its defaults.

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

    task: LightGCNTask

    def __init__(
        self,
        data: HeteroData,
        config: LightGCNConfig | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = LightGCNConfig.of(config)
        super().__init__(LightGCNTask(data, c, edge_type, device))
