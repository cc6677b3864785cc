from __future__ import annotations

from functools import partial

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
        make_model = partial(MF, embedding_dim=c.embedding_dim)
        weights = {'reg_weight': c.reg_weight}
        super().__init__(
            BPRTask(data, c, make_model, weights, edge_type, device)
        )
