from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffmm_geo.ops.row_streams import RowStreams
from diffmm_geo.training.distributed.ranks import Ranks
from diffmm_geo.training.generators import DiffusionGenerator
from diffmm_geo.utils.finite import FiniteLosses

if TYPE_CHECKING:
    from diffmm_geo.training.diffmm_trainer import DiffMMTrainer

# Each batch of users is cut into so many blocks, whatever the number of
# ranks, with random numbers of their own. A rank takes whole blocks.
NUM_BLOCKS = 8


class ShardedDiffusionGenerator(DiffusionGenerator):
    r"""Denoisers that are trained, and generate, in several processes.

    Denoisers share no weights. So ranks are split into groups for different
    modalities first, as far as their numbers have a common divisor: groups
    have nothing to exchange but the weights at the end of an epoch. The users
    of a batch are then split within a group, whose gradients are summed up.

    Args:
        trainer (DiffMMTrainer): The trainer.
        ranks (Ranks): The processes.

    Raises:
        ValueError: If there are more ranks than can be used.
    """

    def __init__(self, trainer: DiffMMTrainer, ranks: Ranks) -> None:
        super().__init__(trainer)
        self.ranks = ranks
        count = len(trainer.diffusion.modalities)
        self.num_groups = math.gcd(ranks.size, count)
        if ranks.size > self.num_groups * NUM_BLOCKS:
            raise ValueError(
                f"'ranks' needs at most {NUM_BLOCKS} ranks for each of "
                f'{self.num_groups} groups of modalities (got {ranks.size})'
            )
        self.group_number, self.group = ranks.split(self.num_groups)

    @property
    def own_modalities(self) -> list[tuple[int, str]]:
        r"""The numbers and names of this rank's modalities."""
        modalities = list(enumerate(self.trainer.diffusion.modalities))
        return modalities[self.group_number :: self.num_groups]

    def train_epoch(self) -> dict[str, float]:
        trainer, config = self.trainer, self.trainer.config
        diffusion, optimizer = trainer.diffusion, trainer.diffusion_optimizer
        modalities = diffusion.modalities
        with torch.no_grad():
            modality_emb = trainer.model.projected(trainer.feature_dict)
        item_emb = trainer.model.item_emb.weight.detach()
        diffusion.train()

        # All ranks draw these, so that they stay at one in the global stream.
        order = torch.randperm(trainer.num_users, device=trainer.device)
        seeds = torch.randint(
            2**31, (self.num_steps, len(modalities), NUM_BLOCKS)
        ).tolist()
        blocks = self.group.share(NUM_BLOCKS)
        finite = FiniteLosses([f'diffusion_{m}' for m in modalities])
        total = item_emb.new_zeros(len(modalities))
        finish: Callable[[], None] | None = None
        for step, users in enumerate(order.split(self.batch_size)):
            num_rows = users.numel()
            stops = [num_rows * n // NUM_BLOCKS for n in range(NUM_BLOCKS + 1)]
            stops = stops[blocks.start : blocks.stop + 1]
            lists = self._interactions.take(users[stops[0] : stops[-1]])
            losses = item_emb.new_zeros(len(modalities))
            for number, m in self.own_modalities:
                optimizer.zero_grad()
                if lists.num_rows > 0:
                    streams = RowStreams.from_seeds(
                        seeds[step][number][blocks],
                        [end - start for start, end in zip(stops, stops[1:])],
                        NUM_BLOCKS,
                        num_rows,
                        trainer.device,
                    )
                    elbo, msi = diffusion.batch_loss(
                        m,
                        lists,
                        item_emb,
                        modality_emb[m],
                        config.msi_weight,
                        config.diffusion_form,
                        streams=streams,
                    )
                    loss = elbo.sum() + config.msi_weight * msi.sum()
                    loss = loss / num_rows
                    loss.backward()
                    losses[number] = loss.detach()
                self.group.sum_gradients(diffusion.denoisers[m].parameters())
                optimizer.step()
            # Losses are looked at one step late, so that a rank which is
            # ahead need not wait, and never longer for another than a step.
            if finish is not None:
                finish()
            finish = self._add_later(
                finite, total, losses, step + 1, num_rows / trainer.num_users
            )
            trainer._on_step()
        assert finish is not None
        finish()
        finite.check()
        optimizer.zero_grad()
        self._exchange(lambda p: [p.detach()])
        return dict(zip(modalities, total.tolist()))

    def _add_later(
        self,
        finite: FiniteLosses,
        total: Tensor,
        losses: Tensor,
        step: int,
        share: float,
    ) -> Callable[[], None]:
        wait = self.ranks.sum_later_(losses)

        def finish() -> None:
            wait()
            finite.add(step, losses)
            total.add_(losses, alpha=share)

        return finish

    def edges(self) -> dict[str, Tensor]:
        trainer, config = self.trainer, self.trainer.config
        candidates = self.candidates()
        users = torch.arange(trainer.num_users, device=trainer.device)
        own = self.group.share(trainer.num_users)
        interactions = self._interactions.take(users[own])

        k = config.num_edges_per_user
        modalities = trainer.diffusion.modalities
        out = users.new_zeros(len(modalities), trainer.num_users, k)
        for number, m in self.own_modalities:
            out[number, own] = trainer.diffusion.sample_edges_of(
                m, interactions, k, candidates=candidates
            )[1].view(-1, k)
        self.ranks.sum_(out)
        users = users.repeat_interleave(k)
        return {
            m: torch.stack([users, items.view(-1)])
            for m, items in zip(modalities, out)
        }

    def exchange_optimizer(self) -> None:
        r"""Brings what the optimiser knows of all denoisers to all ranks."""
        state = self.trainer.diffusion_optimizer.state

        def tensors(p: torch.nn.Parameter) -> list[Tensor]:
            own = state[p]
            for name in ('exp_avg', 'exp_avg_sq'):
                if name not in own:
                    own[name] = torch.zeros_like(p)
            if 'step' not in own:
                own['step'] = torch.zeros((), device=p.device)
            return [own[name] for name in ('step', 'exp_avg', 'exp_avg_sq')]

        self._exchange(tensors)

    @torch.no_grad()
    def _exchange(
        self,
        tensors: Callable[[torch.nn.Parameter], list[Tensor]],
    ) -> None:
        if self.num_groups == 1:
            return
        for number, denoiser in enumerate(
            self.trainer.diffusion.denoisers.values()
        ):
            for p in denoiser.parameters():
                for x in tensors(p):
                    self.ranks.broadcast_(x, number % self.num_groups)
