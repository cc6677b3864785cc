from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.tasks.config import TrainingConfig
from diffmm_geo.tasks.task import Task


class BPRTask(Task):
    r"""Trains a model without graphs on (user, positive, negative) triples,
    *e.g.*, :class:`~diffmm_geo.nn.MF` or :class:`~diffmm_geo.nn.VBPR`.

    Args:
        data, config, edge_type, device: As in :class:`~diffmm_geo.tasks.Task`.
        make_model (callable): A function that takes the number of users and the
            number of items and returns the model. The model's :obj:`forward`
            returns the embeddings of users and items. Its :obj:`loss` takes
            pairs of users and positive items, and the negative items.
        loss_weights (dict[str, float], optional): Keyword arguments of the
            model's :obj:`loss`. (default: :obj:`None`)
    """

    loss_names = ('bpr', 'reg')

    def __init__(
        self,
        data: HeteroData,
        config: TrainingConfig,
        make_model: Callable[[int, int], Module],
        loss_weights: Mapping[str, float] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        super().__init__(data, config, edge_type, device)
        self.model: Any = make_model(self.num_users, self.num_items)
        self.model.to(self.device)
        self.loss_weights = dict(loss_weights or {})
        self.reset_optimizers()

    @property
    def data_dict(self) -> dict[str, Tensor]:
        return {**super().data_dict, **dict(self.model.named_buffers())}

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        out: dict[str, Tensor] = self.model.loss(
            batch[:2], batch[2], **self.loss_weights
        )
        return out

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        user, item = self.model()
        return user.detach(), item.detach()
