import os
from importlib.util import find_spec

import torch
from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern

WITH_TRITON = find_spec('triton') is not None


class Triton(Backend):
    r"""Our own kernel: rows in segments of bounded length, summed up in
    single precision, always in the same order. It runs on GPUs, and under
    Triton's interpreter (:obj:`TRITON_INTERPRET=1`) anywhere, to be tested.
    """

    def is_available(self, device: torch.device) -> bool:
        interpreted = os.environ.get('TRITON_INTERPRET') == '1'
        return WITH_TRITON and (device.type == 'cuda' or interpreted)

    def sums_half_in_float(self, device: torch.device) -> bool:
        return True

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        from .triton_kernels import spmm_triton

        return spmm_triton(pattern, value, x)
