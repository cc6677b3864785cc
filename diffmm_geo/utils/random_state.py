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
        r"""Within, random numbers are these, and a CUDA device is the current
        one. It may be nested. Other threads that enter random numbers wait for
        its end.
        """
        with LOCK:
            if self._is_entered:
                yield
                return
            is_cuda = self.device.type == 'cuda'
            with (
                torch.cuda.device(self.device if is_cuda else -1),
                torch.random.fork_rng([self.device] if is_cuda else []),
            ):
                # `torch.manual_seed` would seed all devices.
                generators = {'cpu': torch.default_generator}
                if is_cuda:
                    index = torch.cuda.current_device()
                    generators['cuda'] = torch.cuda.default_generators[index]
                for name, generator in generators.items():
                    if name in self._states:
                        generator.set_state(self._states[name])
                    else:
                        generator.manual_seed(self.seed)
                self._is_entered = True
                try:
                    yield
                finally:
                    self._is_entered = False
                    self._states = {
                        name: generator.get_state()
                        for name, generator in generators.items()
                    }

    def state_dict(self) -> dict[str, Tensor]:
        r"""The states of the generators, by type of device."""
        return dict(self._states)

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        r"""Restores what :meth:`state_dict` returned."""
        self._states = {name: x.cpu() for name, x in state_dict.items()}
