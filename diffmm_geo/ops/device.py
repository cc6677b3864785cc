r"""Choices that depend on the device."""

import os
from importlib.util import find_spec

import torch

WITH_TRITON = find_spec('triton') is not None
# Untimed: enough rows to keep all multiprocessors of a large GPU busy.
GPU_FACTOR = 32


def runs_triton(device: torch.device) -> bool:
    r"""Whether our Triton kernels run on a device: on GPUs, and for tests on
    any device under Triton's interpreter (:obj:`TRITON_INTERPRET=1`).
    """
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    return WITH_TRITON and (device.type == 'cuda' or interpreted)


def block_size(size: int, device: torch.device) -> int:
    r"""The number of elements per block: :obj:`size` on a CPU, whose cache
    must hold them, and 32 times as many on a GPU, to keep it busy.
    """
    return size if device.type == 'cpu' else GPU_FACTOR * size
