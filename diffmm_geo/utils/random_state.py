r"""The states of random number generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def get_random_state(device: torch.device) -> dict[str, Tensor]:
    r"""The states of Python, of NumPy, and of PyTorch on CPU and on a
    device.
    """
    version, internal, gauss = random.getstate()
    other: Any = np.random.get_state(legacy=False)
    key, position = other['state']['key'], other['state']['pos']
    state = {
        'python': _pack([version, *internal], gauss is not None, gauss or 0.0),
        'numpy': _pack(
            [*key.tolist(), position], other['has_gauss'], other['gauss']
        ),
        'cpu': torch.get_rng_state(),
    }
    if device.type == 'cuda':
        state['cuda'] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    r"""Restores what :func:`get_random_state` returned, or a part of it."""
    if 'python' in state:
        (version, *internal), has_gauss, gauss = _unpack(state['python'])
        random.setstate(
            (version, tuple(internal), gauss if has_gauss else None)
        )
    if 'numpy' in state:
        (*key, position), has_gauss, gauss = _unpack(state['numpy'])
        np.random.set_state(
            ('MT19937', np.array(key, np.uint32), position, has_gauss, gauss)
        )
    torch.set_rng_state(state['cpu'].cpu())
    if device.type == 'cuda' and 'cuda' in state:
        torch.cuda.set_rng_state(state['cuda'].cpu(), device)


# A vector of integers, which ends with the bits of the normal number that is
# kept for later.


def _pack(integers: list[int], has_gauss: int, gauss: float) -> Tensor:
    bits = torch.tensor([gauss], dtype=torch.double).view(torch.long)
    return torch.cat([torch.tensor([*integers, int(has_gauss)]), bits])


def _unpack(packed: Tensor) -> tuple[list[int], int, float]:
    packed = packed.cpu()
    *integers, has_gauss = packed[:-1].tolist()
    return integers, has_gauss, float(packed[-1:].view(torch.double))


class RandomState:
    r"""Random numbers of their own, which start from a seed. Outside of
    :meth:`entered`, they and those of Python, NumPy and PyTorch do not affect
    each other.

    Args:
        seed (int): The seed.
        device (torch.device): The device that draws random numbers, besides
            the CPU.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self._own: dict[str, Tensor] | None = None
        self._outer: dict[str, Tensor] = {}
        self._depth = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        r"""Within, all random numbers are these. It may be nested."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        r"""Starts :meth:`entered`."""
        self._depth += 1
        if self._depth > 1:
            return
        self._entered_on = self.device
        self._outer = get_random_state(self.device)
        if self._own is None:
            random.seed(self.seed)
            np.random.seed(self.seed)
            torch.default_generator.manual_seed(self.seed)
        else:
            set_random_state(self.device, self._own)
        if self.device.type == 'cuda' and 'cuda' not in (self._own or {}):
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self.seed)

    def leave(self) -> None:
        r"""Ends :meth:`entered`."""
        self._depth -= 1
        if self._depth == 0:
            self._own = get_random_state(self._entered_on)
            set_random_state(self._entered_on, self._outer)
