r"""The processes that train together."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from diffmm_geo.utils.checks import check_choice, check_int, check_number

DEVICES = ('cpu', 'cuda')
# Gradients of so many bytes are reduced in place, smaller ones are first put
# together: a call costs as much as a few hundred kilobytes.
BUCKET_SIZE = 2**22


class LostRankError(RuntimeError):
    r"""Another rank has ended or does not answer any more."""


class Ranks:
    r"""A group of processes, in each of which tensors of the same shapes are
    at hand. All of them need to call a method, and in the same order. In a
    process of its own, there is nothing to be done, and nothing is.

    Args:
        rank (int, optional): The number of this process in the group.
            (default: :obj:`0`)
        members (list[int], optional): The numbers of the group's processes
            among all. (default: :obj:`[0]`)
        group (ProcessGroup, optional): The group, that of all processes if
            not given. (default: :obj:`None`)
        timeout (float, optional): The seconds to wait for another rank.
            (default: :obj:`30.0`)
        device (torch.device or str, optional): The device of this rank.
            (default: :obj:`'cpu'`)
    """

    def __init__(
        self,
        rank: int = 0,
        members: Sequence[int] = (0,),
        group: dist.ProcessGroup | None = None,
        timeout: float = 30.0,
        device: torch.device | str = 'cpu',
    ) -> None:
        self.rank, self.members, self.group = rank, list(members), group
        self.timeout, self.device = timeout, torch.device(device)

    @property
    def size(self) -> int:
        r"""The number of ranks."""
        return len(self.members)

    @property
    def is_first(self) -> bool:
        r"""Whether this is the one that prints and writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        r"""This rank's share of :obj:`count` things in a row."""
        return slice(
            count * self.rank // self.size, count * (self.rank + 1) // self.size
        )

    def split(self, num_groups: int) -> tuple[int, Ranks]:
        r"""Splits the ranks into groups of equal size: rank :math:`r` goes to
        group :math:`r \bmod G`.

        Args:
            num_groups (int): The number of groups :math:`G`.

        Returns:
            The number of this rank's group, and the group.

        Raises:
            ValueError: If ranks cannot be split so.
        """
        check_int('num_groups', num_groups)
        if self.size % num_groups > 0:
            raise ValueError(
                f"'num_groups' needs to divide the number of ranks "
                f'{self.size} (got {num_groups})'
            )
        own = self.rank % num_groups
        if num_groups == 1:
            return own, self
        out = self
        for number in range(num_groups):
            members = self.members[number::num_groups]
            # Ranks take part in making the groups of others as well.
            group = self._call(
                dist.new_group, members, timeout=_seconds(self.timeout)
            )
            if number == own:
                out = Ranks(
                    self.rank // num_groups,
                    members,
                    group,
                    self.timeout,
                    self.device,
                )
        return own, out

    def sum_(self, x: Tensor) -> Tensor:
        r"""Sums up a tensor over ranks, in place."""
        self.sum_later_(x)()
        return x

    def max_(self, x: Tensor) -> Tensor:
        r"""The maximum of a tensor over ranks, in place."""
        if self.size > 1:
            self._call(dist.all_reduce, x, dist.ReduceOp.MAX, self.group)
        return x

    def sum_later_(self, x: Tensor) -> Callable[[], None]:
        r"""Starts to sum up a tensor over ranks, in place, and returns what
        waits for it.
        """
        if self.size == 1:
            return _nothing
        work = self._call(dist.all_reduce, x, group=self.group, async_op=True)

        def wait() -> None:
            self._call(work.wait)

        return wait

    def broadcast_(self, x: Tensor, source: int = 0) -> Tensor:
        r"""Takes over a tensor from another rank, in place."""
        if self.size > 1:
            self._call(dist.broadcast, x, self.members[source], self.group)
        return x

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        r"""Sums up gradients over ranks; where there is none, it is zero.

        This is plain reduction in place of
        :class:`~torch.nn.parallel.DistributedDataParallel`, which gives each
        rank the same weight, whatever its share of the batch, and needs all
        parameters to be read in the forward pass of the one module that it
        wraps: ours are read by losses and kernels as well.
        """
        if self.size == 1:
            return
        small: dict[torch.dtype, list[Tensor]] = {}
        waits = []
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            grad = p.grad
            if grad.numel() * grad.element_size() >= BUCKET_SIZE:
                waits.append(self.sum_later_(grad))
            else:
                small.setdefault(grad.dtype, []).append(grad)
        for grads in small.values():
            flat = self.sum_(torch.cat([grad.view(-1) for grad in grads]))
            parts = flat.split([grad.numel() for grad in grads])
            for grad, part in zip(grads, parts):
                grad.copy_(part.view_as(grad))
        for wait in waits:
            wait()

    def _call(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        try:
            return function(*args, **kw)
        except RuntimeError as error:
            raise LostRankError(
                f'rank {self.rank} of {self.size} stops, as another rank has '
                f'ended or has not answered for {self.timeout:g} s '
                f'({_first_sentence(error)})'
            ) from error

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.rank} of {self.size})'


@contextmanager
def joined_ranks(device: str = 'cpu', timeout: float = 30.0) -> Iterator[Ranks]:
    r"""Within, the processes that :obj:`torchrun` has started are joined:
    through gloo on CPU, and NCCL on GPUs, one a rank. A process that it has
    not started is on its own. What is split among ranks needs to be out of
    scope at the end, as in a function that trains.

    Args:
        device (str, optional): :obj:`"cpu"` or :obj:`"cuda"`.
            (default: :obj:`"cpu"`)
        timeout (float, optional): The seconds to wait for another rank until
            it is taken for lost. Longer than one of them takes to load data
            or to write a checkpoint. (default: :obj:`30.0`)

    Raises:
        ValueError: If an argument is out of range.
        LostRankError: If not all ranks come together.
    """
    check_choice('device', device, DEVICES)
    timeout = check_number('timeout', timeout, 0.0, low_open=True)
    if not dist.is_torchelastic_launched():
        yield Ranks(timeout=timeout, device=device)
        return
    rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    if device == 'cuda':
        device = f'cuda:{os.environ["LOCAL_RANK"]}'
        torch.cuda.set_device(device)
    ranks = Ranks(rank, range(size), None, timeout, device)
    ranks._call(
        dist.init_process_group,
        'gloo' if device == 'cpu' else 'nccl',
        timeout=_seconds(timeout),
    )
    yield ranks
    # What is split among ranks refers to their group, in circles. Its threads
    # need to end before the interpreter does.
    gc.collect()
    # Not where an error has come: others may not be there to say goodbye to.
    dist.destroy_process_group()


def _seconds(timeout: float) -> timedelta:
    return timedelta(seconds=timeout)


def _nothing() -> None:
    pass


def _first_sentence(error: Exception) -> str:
    return str(error).split('\n')[0].split('. ')[0]
