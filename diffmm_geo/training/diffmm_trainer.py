from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import DiffMM
from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.training.trainer import Trainer


class DiffMMTrainer(Trainer):
    r"""Trains the model of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper, as described
    in :class:`~diffmm_geo.tasks.DiffMMTask`.

    Args:
        data, config, modalities, model, diffusion, edge_type, device:
            As in :class:`~diffmm_geo.tasks.DiffMMTask`.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> data['item'].x_image = torch.randn(6, 16)
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> config = DiffMMConfig(num_epochs=2, hidden_channels=8, k=3)
        >>> trainer = DiffMMTrainer(data, config)
        >>> [record['epoch'] for record in trainer.fit()]
        [1, 2]
        >>> sorted(trainer.best_val['loss'])
        ['bpr', 'contrastive', 'diffusion_image', 'reg']
    """

    task: DiffMMTask
    config: DiffMMConfig
    model: DiffMM

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(DiffMMTask(data, config, *args, **kwargs))

    @property
    def feature_dict(self) -> dict[str, Tensor]:
        r"""The raw features of each modality."""
        return self.task.feature_dict

    @property
    def edge_index_dict(self) -> dict[EdgeType, Tensor]:
        r"""The observed graph and the generated graphs."""
        return self.task.edge_index_dict
