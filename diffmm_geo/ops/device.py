r"""Choices that depend on the device."""

import os
from importlib.util import find_spec

import torch

WITH_TRITON = find_spec('triton') is not None


def runs_triton(device: torch.device) -> bool:
    r"""Whether our Triton kernels run on a device: on GPUs, and for tests on
    any device under Triton's interpreter (:obj:`TRITON_INTERPRET=1`).
    """
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    return WITH_TRITON and (device.type == 'cuda' or interpreted)
