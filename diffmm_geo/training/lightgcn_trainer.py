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
