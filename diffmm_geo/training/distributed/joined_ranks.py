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
    r"""Context manager that joins the processes that :obj:`torchrun` has
    started. They communicate through gloo on CPU, or through NCCL with one GPU
    per rank. Without :obj:`torchrun`, the process runs alone. Sharded modules
    need to be out of scope when the context ends, so create them in a function.

    Args:
        device (str, optional): :obj:`"cpu"` or :obj:`"cuda"`.
            (default: :obj:`"cpu"`)
        timeout (float, optional): The seconds after which a rank that does
            not answer counts as lost. This time needs to suffice for loading
            data and for writing a checkpoint. (default: :obj:`30.0`)

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
