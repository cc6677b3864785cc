from __future__ import annotations

from typing import Any

from torch_geometric.data import HeteroData

from diffmm_geo.tasks import LightGCNTask
from diffmm_geo.tasks.config import LightGCNConfig
from diffmm_geo.training.trainer import Trainer


class LightGCNTrainer(Trainer):
    r"""Trains PyG's own :class:`~torch_geometric.nn.models.LightGCN` under
    the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline.

    Args:
        data, config, edge_type, device: As in
            :class:`~diffmm_geo.tasks.LightGCNTask`.
    """

    task: LightGCNTask

    def __init__(
        self,
        data: HeteroData,
        config: LightGCNConfig | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(LightGCNTask(data, config, *args, **kwargs))
