from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import MF
from diffmm_geo.tasks import BPRTask
from diffmm_geo.tasks.config import MFConfig
from diffmm_geo.training.trainer import Trainer


class MFTrainer(Trainer):
    r"""Trains matrix factorization from the `"BPR: Bayesian Personalized
    Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper
    under the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline.

    Args:
        data, config, edge_type, device: As in
            :class:`~diffmm_geo.tasks.BPRTask`. The default settings are
            :class:`MFConfig` with its defaults.

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

    task: BPRTask

    def __init__(
        self,
        data: HeteroData,
        config: MFConfig | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = MFConfig.of(config)

        def make_model(num_users: int, num_items: int) -> MF:
            return MF(num_users, num_items, c.embedding_dim)

        weights = {'reg_weight': c.reg_weight}
        super().__init__(
            BPRTask(data, c, make_model, weights, edge_type, device)
        )
