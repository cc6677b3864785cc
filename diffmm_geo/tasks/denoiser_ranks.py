r"""The training of denoisers in several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.utils.finite import NonFiniteLossError
from diffmm_geo.utils.ranks import Ranks


def train_on_ranks(
    ranks: Ranks,
    diffusion: ModalityDiffusion,
    optimizer: Optimizer,
    num_steps: int,
    train: Callable[[str, Callable[[], None]], float],
    on_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    r"""Trains each denoiser on one rank for an epoch, and sends it to the other
    ranks. Denoisers share no weights, and each has its own seed. The outcome
    therefore does not depend on the number of ranks.

    :obj:`train` trains one denoiser in :obj:`num_steps` steps, calls its second
    argument after each step, and returns the mean loss. A loss that is not
    finite raises an error on all ranks.
    """
    modalities = diffusion.modalities
    seeds = torch.randint(2**31, (len(modalities),)).tolist()
    like = next(diffusion.parameters())
    # The loss of each modality, and the step at which it was not finite.
    outcome = like.new_zeros(len(modalities), 2)
    for start in range(0, len(modalities), ranks.size):
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            # A rank that waits for a whole epoch of another rank would time
            # out.
            ranks.sum_(like.new_zeros(1))
            if on_step is not None:
                on_step()

        number = start + ranks.rank
        if number < len(modalities):
            with seeded(seeds[number], like.device):
                try:
                    outcome[number, 0] = train(modalities[number], step)
                except NonFiniteLossError as error:
                    outcome[number, 0] = error.value
                    outcome[number, 1] = error.step or 0
        while done < num_steps:
            step()

    losses = dict(zip(modalities, ranks.sum_(outcome).tolist()))
    for m, (loss, number) in losses.items():
        if not math.isfinite(loss):
            raise NonFiniteLossError(f'diffusion_{m}', loss, int(number))
    if ranks.size > 1:
        for number, denoiser in enumerate(diffusion.denoisers.values()):
            for p in denoiser.parameters():
                for x in (p.detach(), *_moments(optimizer, p)):
                    ranks.broadcast_(x, number % ranks.size)
    return {m: loss for m, (loss, _) in losses.items()}


def _moments(
    optimizer: Optimizer,
    parameter: torch.nn.Parameter,
) -> list[Tensor]:
    r"""Adam's state of a parameter. Before the first step, it is zero."""
    state, like = optimizer.state[parameter], parameter.detach()
    if not state:
        state['step'] = like.new_zeros(())
        state['exp_avg'] = torch.zeros_like(like)
        state['exp_avg_sq'] = torch.zeros_like(like)
    return [state[name] for name in ('step', 'exp_avg', 'exp_avg_sq')]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    r"""Random numbers start from a seed within this context. After it, the
    previous ones continue.
    """
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
