from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import Tensor

# PyTorch has one random state per process, which threads take turns to use.
LOCK = RLock()


class RandomState:
    r"""Random numbers of PyTorch of their own, which start from a seed. Outside
    of :meth:`entered`, they and those of the caller do not affect each other.

    Args:
        seed (int): The seed.
        device (torch.device): The device that draws random numbers, besides
            the CPU.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self._states: dict[str, Tensor] = {}
        self._is_entered = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        r"""Within, random numbers are these. It may be nested. Other threads
        that enter random numbers wait for its end.
        """
        with LOCK:
            if self._is_entered:
                yield
                return
            device, is_cuda = self.device, self.device.type == 'cuda'
            with torch.random.fork_rng([device] if is_cuda else []):
                self._start()
                self._is_entered = True
                try:
                    yield
                finally:
                    self._is_entered = False
                    self._states = {'cpu': torch.get_rng_state()}
                    if is_cuda:
                        self._states['cuda'] = torch.cuda.get_rng_state(device)

    def _start(self) -> None:
        if 'cpu' in self._states:
            torch.set_rng_state(self._states['cpu'])
        else:
            # `torch.manual_seed` would seed all devices.
            torch.default_generator.manual_seed(self.seed)
        if self.device.type != 'cuda':
            return
        if 'cuda' in self._states:
            torch.cuda.set_rng_state(self._states['cuda'], self.device)
        else:
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self.seed)

    def state_dict(self) -> dict[str, Tensor]:
        r"""The states of the generators, by type of device."""
        return dict(self._states)

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        r"""Restores what :meth:`state_dict` returned."""
        self._states = {name: x.cpu() for name, x in state_dict.items()}
