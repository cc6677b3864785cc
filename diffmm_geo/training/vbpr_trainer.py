from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import VBPR
from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.tasks import BPRTask
from diffmm_geo.tasks.config import VBPRConfig
from diffmm_geo.training.trainer import Trainer
from diffmm_geo.utils.features import modality_features


class VBPRTrainer(Trainer):
    r"""Trains the model of the `"VBPR: Visual Bayesian Personalized Ranking
    from Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_ paper under
    the protocol of :class:`~diffmm_geo.training.DiffMMTrainer`, as a
    baseline. The features of all modalities of an item are scaled to unit
    length and then concatenated.

    Args:
        data (HeteroData): The user-item graph with item features
            :obj:`x_{m}`.
        config, edge_type, device: As in :class:`~diffmm_geo.tasks.BPRTask`.
            The default settings are :class:`VBPRConfig` with its defaults.
        modalities (list[str], optional): The modalities to use. If not given,
            uses all modalities of the items. (default: :obj:`None`)
    """

    task: BPRTask

    def __init__(
        self,
        data: HeteroData,
        config: VBPRConfig | None = None,
        modalities: Sequence[str] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = VBPRConfig.of(config)

        def make_model(num_users: int, num_items: int) -> VBPR:
            features = modality_features(
                data[edge_type[2]], num_items, modalities
            )
            dtype = torch.get_default_dtype()
            feature = torch.cat(
                [unit_rows(x.to(dtype)) for x in features.values()], dim=-1
            )
            return VBPR(num_users, feature, c.embedding_dim, c.feature_dim)

        weights = {
            'reg_weight': c.reg_weight,
            'feature_reg_weight': c.feature_reg_weight,
        }
        super().__init__(
            BPRTask(data, c, make_model, weights, edge_type, device)
        )
