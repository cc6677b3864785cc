from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from diffmm_geo.utils.checks import check_choice, check_number
from diffmm_geo.utils.ranks import Ranks

DEVICES = ('cpu', 'cuda')


@contextmanager
def joined_ranks(device: str = 'cpu', timeout: float = 30.0) -> Iterator[Ranks]:
    r"""Joins the processes that :obj:`torchrun` has started, through gloo on
    CPU, and NCCL on GPUs, one per rank. Any other process is on its own.
    Sharded modules need to be out of scope at the end, as in a function that
    trains.

    Args:
        device (str, optional): :obj:`"cpu"` or :obj:`"cuda"`.
            (default: :obj:`"cpu"`)
        timeout (float, optional): The seconds after which a rank that does
            not answer counts as lost. They need to suffice for loading data
            and for writing a checkpoint. (default: :obj:`30.0`)

    Raises:
        ValueError: If an argument is out of range.
        LostRankError: If not all ranks join.
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
    ranks = Ranks(rank, size, timeout, device)
    ranks.call(
        dist.init_process_group,
        'gloo' if device == 'cpu' else 'nccl',
        timeout=timedelta(seconds=timeout),
    )
    yield ranks
    # Sharded modules refer to the group, in circles. Its threads need to end
    # before the interpreter does.
    gc.collect()
    # Not after an error: the other ranks may be gone.
    dist.destroy_process_group()
