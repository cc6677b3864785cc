from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import MaskedDiffusion, MaskedInteractionDiffusion
from diffmm_geo.nn.diffusion.list_loss import list_loss, unit_values
from diffmm_geo.ops.bag import bag
from diffmm_geo.sparse import CSR
from diffmm_geo.tasks.config import DenoiserConfig
from diffmm_geo.tasks.task import Task


class DenoiserTask(Task):
    r"""Trains a :class:`~diffmm_geo.nn.MaskedInteractionDiffusion` as a
    recommender. Each batch holds users. The scores are the denoiser's logits
    for the whole row of a user

    .. math::
        s_{ui} = \mathbf{w}_i^{\top} \mathbf{h}_u + b_i

    with the hidden layer :math:`\mathbf{h}_u`, and the weights
    :math:`\mathbf{w}_i` and the bias :math:`b_i` of the last layer.

    Args:
        data, edge_type, device: As in :class:`~diffmm_geo.tasks.Task`.
        config (DenoiserConfig, optional): The settings. (default: :obj:`None`,
            :class:`~diffmm_geo.training.DenoiserConfig` with its defaults)

    Attributes:
        interactions (CSR): The distinct observed items of each user.
    """

    config: DenoiserConfig
    model: MaskedInteractionDiffusion
    loss_names = ('nll', 'reg')

    def __init__(
        self,
        data: HeteroData,
        config: DenoiserConfig | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = DenoiserConfig.of(config)
        super().__init__(data, c, edge_type, device)
        with self.random_state.entered():
            self.model = MaskedInteractionDiffusion(
                self.num_items,
                MaskedDiffusion(c.num_steps),
                hidden_channels=c.hidden_channels,
            ).to(self.device)
        self.reset_optimizers()
        self._prepare()

    def _prepare(self) -> None:
        self.interactions = CSR.from_edge_index(
            self.edge_index, (self.num_users, self.num_items), coalesce=True
        )
        # Users without interactions have no loss.
        degree = self.interactions.rowptr.diff()
        self.active_users = degree.nonzero().view(-1)

    def move_data(self, device: torch.device) -> None:
        super().move_data(device)
        self._prepare()

    @property
    def num_batches(self) -> int:
        return -(-self.active_users.numel() // self.config.batch_size)

    def batches(self) -> Iterator[Tensor]:
        r"""The users of each batch :math:`(1, B)`."""
        num_users = self.active_users.numel()
        order = torch.randperm(num_users, device=self.device)
        users = self.active_users[order].view(1, -1)
        yield from users.split(self.config.batch_size, dim=1)

    def weight(self, batch: Tensor) -> float:
        num_users: int = batch.size(1)
        return num_users / self.active_users.numel()

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        none = self.model.denoiser.item_weight.new_empty(self.num_items, 0)
        with self.autocast():
            nll, _ = list_loss(
                self.model,
                self.interactions.take(batch[0]),
                none,
                none,
                msi_weight=0.0,
                form=self.config.diffusion_form,
            )
        reg = nll.new_zeros(())
        if self.config.reg_weight > 0:
            denoiser = self.model.denoiser
            tables = denoiser.item_weight, denoiser.lin_out.weight
            norm = torch.stack([x.square().sum() for x in tables]).sum()
            reg = self.config.reg_weight * norm
        return {'nll': nll.mean(), 'reg': reg}

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        denoiser, lists = self.model.denoiser, self.interactions
        weight, lin = denoiser.item_weight, denoiser.lin_out
        z = bag(lists, weight, unit_values(lists, weight.dtype))
        h = denoiser.hidden(z, lists.rowptr.new_zeros(1))
        # One more channel, which is one for all users, adds the bias.
        user = torch.cat([h, h.new_ones(h.size(0), 1)], dim=1)
        return user, torch.cat([lin.weight, lin.bias.view(-1, 1)], dim=1)
