from __future__ import annotations

import torch
from torch import Tensor

from diffmm_geo.ops.device import runs_triton
from diffmm_geo.sparse import CSR

from .backend import Backend, HalfStep


class Triton(Backend):
    r"""Our kernel, which splits rows into segments of bounded length and
    accumulates in single precision, in a fixed order. It runs on GPUs, and for
    tests on any device under Triton's interpreter
    (:obj:`TRITON_INTERPRET=1`).
    """

    def is_available(self, device: torch.device) -> bool:
        return runs_triton(device)

    def sddmm(self, pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
        from .triton_kernels import sddmm_triton

        return sddmm_triton(pattern, a, b)

    def __call__(
        self, half: HalfStep, x: Tensor, x_dst: Tensor | None = None
    ) -> Tensor:
        # The kernel reads values and self-loops in any precision.
        if half.pattern.size[0] == 0 or x.size(1) == 0:
            return x.new_zeros(half.pattern.size[0], x.size(1))
        from .triton_kernels import spmm_triton

        return spmm_triton(half, x, x_dst)
