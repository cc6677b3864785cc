from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.tasks import ItemGraphTask
from diffmm_geo.tasks.config import ItemGraphConfig
from diffmm_geo.training.trainer import Trainer


class ItemGraphTrainer(Trainer):
    r"""Trains an :class:`~diffmm_geo.nn.ItemGraphLightGCN` under the protocol
    of :class:`~diffmm_geo.training.DiffMMTrainer`.

    Args:
        data, config, modalities, edge_type, device: As in
            :class:`~diffmm_geo.tasks.ItemGraphTask`.
    """

    task: ItemGraphTask

    def __init__(
        self,
        data: HeteroData,
        config: ItemGraphConfig | None = None,
        modalities: Sequence[str] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        super().__init__(
            ItemGraphTask(data, config, modalities, edge_type, device)
        )
