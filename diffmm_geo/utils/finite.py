from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class NonFiniteLossError(FloatingPointError):
    r"""A loss is infinite or NaN.

    Attributes:
        term (str): The term of the loss.
        value (float): Its value.
        step (int): The step, starting at 1.
        epoch (int, optional): The epoch, starting at 1, if it is known.
    """

    epoch: int | None = None

    def __init__(self, term: str, value: float, step: int) -> None:
        super().__init__(term, value, step)
        self.term, self.value, self.step = term, value, step

    def __str__(self) -> str:
        epoch = '' if self.epoch is None else f'epoch {self.epoch}, '
        return (
            f"the loss '{self.term}' is {self.value} in {epoch}step {self.step}"
        )


@contextmanager
def errors_of_epoch(epoch: int) -> Iterator[None]:
    r"""Adds the epoch to a :class:`NonFiniteLossError` of the block."""
    try:
        yield
    except NonFiniteLossError as error:
        error.epoch = epoch
        raise


class FiniteLosses:
    r"""Keeps the losses of the steps of an epoch on their device, and finds the
    first step with a non-finite one: at once on a CPU, and otherwise at the end
    of the epoch, to avoid synchronization. A recorded step may add them.

    Args:
        terms (list[str]): The names of the terms of the loss.
        num_steps (int): The maximum number of steps of an epoch.
        first_step (int, optional): The first step. (default: :obj:`1`)
    """

    def __init__(
        self,
        terms: Sequence[str],
        num_steps: int,
        first_step: int = 1,
    ) -> None:
        self.terms, self.num_steps = list(terms), num_steps
        self.first_step = first_step
        self._num_checked = 0
        self._losses: Tensor | None = None
        self._place: Tensor | None = None

    def start_epoch(self) -> None:
        r"""Forgets what was added, but not where."""
        self._num_checked = 0
        if self._losses is not None and self._place is not None:
            self._losses.zero_()
            self._place.zero_()

    def add(self, losses: Tensor) -> None:
        r"""Adds the terms of the next step."""
        if self._losses is None or self._place is None:
            self._losses = losses.new_zeros(self.num_steps, len(self.terms))
            self._place = losses.new_zeros(1, dtype=torch.long)
        self._losses.index_copy_(0, self._place, losses.view(1, -1))
        self._place += 1
        if losses.device.type == 'cpu':
            self._check(losses.tolist(), self._num_checked)
            self._num_checked += 1

    def check(self) -> None:
        r"""Raises the error of the first step with a non-finite term."""
        if self._losses is not None:
            for place, values in enumerate(self._losses.tolist()):
                self._check(values, place)

    def means(self, weights: Sequence[float]) -> dict[str, float]:
        r"""The sum of all steps, with a weight for each, by name, after
        :meth:`check`. Waits for the device once.
        """
        totals = [0.0] * len(self.terms)
        if self._losses is not None:
            rows = self._losses.tolist()
            for place, (values, weight) in enumerate(zip(rows, weights)):
                self._check(values, place)
                totals = [t + weight * x for t, x in zip(totals, values)]
        return dict(zip(self.terms, totals))

    def _check(self, values: list[float], place: int) -> None:
        for term, value in zip(self.terms, values):
            if not math.isfinite(value):
                raise NonFiniteLossError(term, value, self.first_step + place)
