from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from diffmm_geo.utils.checks import check_type

if TYPE_CHECKING:
    from .sharded_parameters import ShardedParameters


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

    Every rank holds the data and all weights, or with
    :obj:`shard_parameters` its share of the model's: by rows of ID
    embeddings, of their gradients and of Adam's moments, with PyTorch's
    :func:`~torch.distributed.fsdp.fully_shard`. A step gathers the weights;
    copies of the best epoch stay in the memory of the host.

    The first rank calls callbacks and writes checkpoints, which any other
    number of ranks can go on from, sharded or not; all of them read these,
    from a folder that they share. All methods are for all ranks to call.

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
        shard_parameters (bool, optional): Whether each rank holds its share
            of the model's weights alone. (default: :obj:`False`)

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
        shard_parameters: bool = False,
    ) -> None:
        self.ranks = ranks or Ranks()
        self._sharded: ShardedParameters | None = None
        check_type('shard_parameters', shard_parameters, bool)
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
        if shard_parameters and self.ranks.size > 1:
            self._shard_parameters()
        else:
            self.optimizer.register_step_pre_hook(
                lambda *_: self.ranks.sum_gradients(self.model.parameters())
            )

    def _shard_parameters(self) -> None:
        # Takes a while to be imported.
        from .sharded_parameters import ShardedParameters

        self._sharded = ShardedParameters(
            self.model, self.ranks, ('forward_with_views', 'reg_loss')
        )
        self.optimizer = self.adam(self.model.parameters(), self.config.lr)

    @contextmanager
    def _whole_parameters(self) -> Iterator[None]:
        with nullcontext() if self._sharded is None else self._sharded.whole():
            yield

    @property
    def writes_files(self) -> bool:
        return self.ranks.is_first

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

    def generate_graphs(self) -> dict[str, float]:
        with self._whole_parameters():
            return super().generate_graphs()

    def embeddings(self) -> tuple[Tensor, Tensor]:
        with self._whole_parameters():
            return super().embeddings()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._sharded is None else self._sharded.gather(state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._sharded is not None:
            model = self._sharded.split_state(state_dict['model'])
            state_dict = {**state_dict, 'model': model}
        super().load_state_dict(state_dict)

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
        # There is one copy alone of what is split.
        for p in [] if self._sharded else self.model.parameters():
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
        checkpoint = self._checkpoint(best)
        if self._sharded is not None:
            checkpoint = self._sharded.gather(checkpoint)
        if self.writes_files:
            folder.write(*checkpoint)

    def _load_checkpoint(self, content: dict[str, Any]) -> dict[str, Any]:
        if self._sharded is not None:
            optimizers = content['optimizers']
            model = self._sharded.split_optimizer_state(
                self.optimizer, optimizers['model']
            )
            content = {**content, 'optimizers': {**optimizers, 'model': model}}
        return super()._load_checkpoint(content)
