from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class LostRankError(RuntimeError):
    r"""Another rank has ended or does not answer."""


class Ranks:
    r"""The processes of a training run. All ranks call the methods in the same
    order, with tensors of equal shapes. With a single rank, the methods do
    nothing.

    Args:
        rank (int, optional): The number of this process. (default: :obj:`0`)
        size (int, optional): The number of processes. (default: :obj:`1`)
        timeout (float, optional): The seconds to wait for another rank.
            (default: :obj:`30.0`)
        device (torch.device or str, optional): The device of this rank.
            (default: :obj:`'cpu'`)
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        timeout: float = 30.0,
        device: torch.device | str = 'cpu',
    ) -> None:
        self.rank, self.size = rank, size
        self.timeout, self.device = timeout, torch.device(device)

    @property
    def is_first(self) -> bool:
        r"""Whether this rank prints and writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        r"""This rank's share of :obj:`count` consecutive elements."""
        return slice(
            count * self.rank // self.size, count * (self.rank + 1) // self.size
        )

    def sum_(self, x: Tensor) -> Tensor:
        r"""Sums a tensor over ranks, in place."""
        if self.size > 1:
            self.call(dist.all_reduce, x)
        return x

    def broadcast_(self, x: Tensor, source: int = 0) -> Tensor:
        r"""Copies a tensor of another rank, in place."""
        if self.size > 1:
            self.call(dist.broadcast, x, source)
        return x

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        r"""Sums gradients over ranks. Missing gradients count as zero. Sharded
        parameters are skipped, as their gradients are already summed.

        :class:`~torch.nn.parallel.DistributedDataParallel` does not fit: it
        averages gradients regardless of the share of each rank, and needs the
        forward pass of a module, while losses read parameters directly.
        """
        if self.size == 1:
            return
        works = []
        for p in parameters:
            if is_sharded(p):
                continue
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            works.append(self.call(dist.all_reduce, p.grad, async_op=True))
        for work in works:
            self.call(work.wait)

    def check_equal(self, tensors: Iterable[Tensor], message: str) -> None:
        r"""Raises a :class:`RuntimeError` if a tensor differs between ranks.
        Compares floating point tensors by their sums. Skips sharded tensors.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for x in tensors:
            if is_sharded(x):
                continue
            if x.is_floating_point():
                x = x.detach().sum(dtype=torch.double)
            digest.update(x.cpu().numpy().tobytes())
        number = int.from_bytes(digest.digest()[:7], 'big')
        extremes = torch.tensor([number, -number], device=self.device)
        self.call(dist.all_reduce, extremes, dist.ReduceOp.MAX)
        if int(extremes.sum()) != 0:
            raise RuntimeError(message)

    def call(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        r"""Raises :class:`LostRankError` if the called function fails."""
        try:
            return function(*args, **kw)
        except RuntimeError as error:
            reason = str(error).split('\n')[0].split('. ')[0]
            raise LostRankError(
                f'rank {self.rank} of {self.size} stops, as another rank has '
                f'ended or has not answered for {self.timeout:g} s ({reason})'
            ) from error

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.rank} of {self.size})'


def is_sharded(x: Tensor) -> bool:
    r"""Whether a tensor is a DTensor, without its slow import."""
    return hasattr(x, 'full_tensor')
