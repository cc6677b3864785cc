from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class NonFiniteLossError(FloatingPointError):
    r"""A loss is infinite or NaN.

    Args:
        term (str): The term of the loss.
        value (float): Its value.
        step (int, optional): The step, starting at 1. (default: :obj:`None`)
        epoch (int, optional): The epoch, starting at 1. (default: :obj:`None`)
    """

    def __init__(
        self,
        term: str,
        value: float,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        self.term, self.value = term, value
        self.step, self.epoch = step, epoch
        place = [
            f'{name} {number}'
            for name, number in (('epoch', epoch), ('step', step))
            if number is not None
        ]
        super().__init__(
            f"the loss '{term}' is {value}"
            + (f' in {", ".join(place)}' if place else '')
        )


@contextmanager
def errors_of_epoch(epoch: int) -> Iterator[None]:
    r"""Adds the epoch to a :class:`NonFiniteLossError` of the block."""
    try:
        yield
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            error.term, error.value, error.step, epoch
        ) from error


class FiniteLosses:
    r"""Finds the first step of an epoch with a non-finite loss: at once on a
    CPU, and otherwise at the end of the epoch, to avoid synchronization.
    """

    def __init__(self, terms: Sequence[str], epoch: int | None = None) -> None:
        self.terms, self.epoch = list(terms), epoch
        self._step: Tensor | None = None
        self._value: Tensor | None = None

    def add(self, step: int, losses: Tensor) -> None:
        r"""Records the terms of a step, starting at 1."""
        bad = ~losses.isfinite()
        if self._step is None or self._value is None:
            self._step = torch.zeros_like(losses, dtype=torch.long)
            self._value = torch.zeros_like(losses)
        new = bad & (self._step == 0)
        self._step = self._step.masked_fill(new, step)
        self._value = torch.where(new, losses, self._value)
        if losses.device.type == 'cpu':
            self.check()

    def check(self) -> None:
        r"""Raises the error of the first step with a non-finite term."""
        if self._step is None or self._value is None:
            return
        found = [
            (step, term, value)
            for step, term, value in zip(
                self._step.tolist(), self.terms, self._value.tolist()
            )
            if step > 0
        ]
        if found:
            step, term, value = min(found, key=lambda x: x[0])
            raise NonFiniteLossError(term, value, step, self.epoch)
