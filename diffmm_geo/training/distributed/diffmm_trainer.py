from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import METRICS
from diffmm_geo.nn import DiffMM, ModalityDiffusion
from diffmm_geo.ops.bipartite_adj import BipartiteAdj
from diffmm_geo.training.checkpoint import CheckpointFolder
from diffmm_geo.training.diffmm_trainer import DiffMMConfig, DiffMMTrainer
from diffmm_geo.training.distributed.diffusion_generator import (
    ShardedDiffusionGenerator,
)
from diffmm_geo.training.distributed.ranks import Ranks
from diffmm_geo.training.generators import DiffusionGenerator
from diffmm_geo.training.random_state import random_state
from diffmm_geo.training.trainer import Callback, Record


class DistributedDiffMMTrainer(DiffMMTrainer):
    r"""The training of :class:`~diffmm_geo.training.DiffMMTrainer` in several
    processes, to the same losses whatever their number: a batch is split
    among ranks, and all that is random depends on the seed alone.

    - Denoisers share no weights: ranks are split into groups for different
      modalities, as far as their numbers have a common divisor, and within a
      group by the users of a batch. Likewise where they generate.
    - In the recommendation phase, each rank propagates through the whole
      graph and takes its share of the batch's interactions, which are the
      anchors of the contrastive loss too. Gradients are summed up.
    - Users are ranked for in equal shares.

    Every rank holds the data and all weights. The first one calls callbacks
    and writes checkpoints, which any other number of ranks can go on from;
    all of them read these, from a folder that they share.

    Args:
        data (HeteroData): As in :class:`~diffmm_geo.training.DiffMMTrainer`,
            the same on all ranks.
        config (DiffMMConfig, optional): Likewise; batch sizes are those of
            all ranks together.
            (default: :class:`~diffmm_geo.training.DiffMMConfig` with its
            defaults)
        modalities (list[str], optional): Likewise. (default: :obj:`None`)
        model (DiffMM, optional): Likewise. (default: :obj:`None`)
        diffusion (ModalityDiffusion, optional): Likewise.
            (default: :obj:`None`)
        edge_type (tuple[str, str, str], optional): Likewise.
            (default: :obj:`('user', 'interacts', 'item')`)
        ranks (Ranks, optional): The processes, from
            :func:`~diffmm_geo.training.distributed.joined_ranks`; this one
            alone if not given. (default: :obj:`None`)

    Raises:
        ValueError: If there are more ranks than can be used, or CUDA graphs
            or batches of neighbours are asked for.
    """

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | None = None,
        modalities: Sequence[str] | None = None,
        model: DiffMM | None = None,
        diffusion: ModalityDiffusion | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        if config is not None and config.cuda_graphs:
            raise ValueError(
                "'cuda_graphs' needs to be False, as graphs hold no exchange "
                'with other ranks (got True)'
            )
        if config is not None and config.batching != 'full':
            raise ValueError(
                f"'batching' needs to be 'full', as sparse gradients are not "
                f'summed up over ranks (got {config.batching!r})'
            )
        super().__init__(
            data,
            config,
            modalities,
            model,
            diffusion,
            edge_type,
            self.ranks.device,
        )
        if isinstance(self._generator, DiffusionGenerator):
            self._generator = ShardedDiffusionGenerator(self, self.ranks)
        # The same already, unless a model was given.
        for module in (self.model, self.diffusion):
            for x in module.state_dict().values():
                self.ranks.broadcast_(x)
        self.optimizer.register_step_pre_hook(
            lambda *_: self.ranks.sum_gradients(self.model.parameters())
        )

    def fit(
        self,
        progress: bool = False,
        callback: Callback | Sequence[Callback] | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> list[Record]:
        r"""Trains on all ranks; see :meth:`Trainer.fit
        <diffmm_geo.training.Trainer.fit>`. Only the first shows progress and
        calls callbacks.

        Raises:
            LostRankError: If another rank has ended or does not answer.
        """
        if not self.ranks.is_first:
            progress, callback = False, None
        return super().fit(progress, callback, checkpoint_dir, resume)

    def _loss(
        self,
        adj_dict: dict[EdgeType, BipartiteAdj],
        user: Tensor,
        positive: Tensor,
        negative: Tensor,
        n_id_dict: dict[str, Tensor] | None = None,
        sample_dict: dict[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        own = self.ranks.share(user.numel())
        share = (own.stop - own.start) / user.numel()
        if share == 0:
            # Draws what the others draw, and counts for nothing.
            own = slice(0, 1)
        bpr, reg, contrastive = super()._loss(
            adj_dict,
            user[own],
            positive[own],
            negative[own],
            n_id_dict,
            sample_dict,
        )
        # Without the others, this is the loss; their gradients are added to
        # ours before the step.
        terms = torch.stack(
            [share * bpr, reg / self.ranks.size, share * contrastive]
        )
        total = self.ranks.sum_(terms.detach().clone())
        return terms + (total - terms).detach()

    def _metrics(
        self,
        user: Tensor,
        item: Tensor,
        edge_label_index: Tensor,
    ) -> dict[str, float]:
        if self.ranks.size == 1:
            return super()._metrics(user, item, edge_label_index)
        users = edge_label_index[0].unique()
        own = users[self.ranks.share(users.numel())]
        names = [f'{name}@{self.config.k}' for name in METRICS]
        total = torch.zeros(len(names), dtype=torch.double, device=user.device)
        if own.numel() > 0:
            row = edge_label_index[0]
            mask = (row >= own[0]) & (row <= own[-1])
            metrics = super()._metrics(user, item, edge_label_index[:, mask])
            share = own.numel() / users.numel()
            total += share * total.new_tensor([metrics[name] for name in names])
        return dict(zip(names, self.ranks.sum_(total).tolist()))

    def _epoch(self, progress: bool) -> Record:
        self._check_in_step()
        return super()._epoch(progress)

    def _check_in_step(self) -> None:
        r"""Ranks that are not at one would train something else without a
        word.
        """
        digest = hashlib.sha256(f'{len(self.history)}'.encode())
        for x in random_state(self.device).values():
            digest.update(x.cpu().numpy().tobytes())
        for p in self.model.parameters():
            digest.update(p.detach().double().sum().cpu().numpy().tobytes())
        number = int.from_bytes(digest.digest()[:7], 'big')
        most, least = self.ranks.max_(
            torch.tensor([number, -number], device=self.device)
        ).tolist()
        if most != -least:
            raise RuntimeError(
                f"'ranks' need to be in the same state after epoch "
                f'{len(self.history)} (got others): all need the same data '
                f"and settings, and a 'checkpoint_dir' that they share"
            )

    def _write_checkpoint(
        self,
        folder: CheckpointFolder,
        best: dict[str, Any],
    ) -> None:
        if isinstance(self._generator, ShardedDiffusionGenerator):
            self._generator.exchange_optimizer()
        if self.ranks.is_first:
            super()._write_checkpoint(folder, best)
