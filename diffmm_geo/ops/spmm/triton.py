from __future__ import annotations

import torch
from torch import Tensor

from diffmm_geo.ops.runs_triton import runs_triton

from .backend import Backend
from .csr_pattern import CSRPattern


class Triton(Backend):
    r"""Our own kernel: rows in segments of bounded length, summed up in
    single precision, always in the same order. It runs on GPUs, and under
    Triton's interpreter (:obj:`TRITON_INTERPRET=1`) anywhere, to be tested.
    """

    def is_available(self, device: torch.device) -> bool:
        return runs_triton(device)

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        return self(pattern, value, x)

    def sampled_product(
        self,
        pattern: CSRPattern,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        from .sampled_product.triton_kernels import sampled_product_triton

        return sampled_product_triton(pattern, a, b)

    def __call__(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
        loop: Tensor | None = None,
        x_dst: Tensor | None = None,
    ) -> Tensor:
        # Values and self-loops are read in whatever precision they have.
        if pattern.size[0] == 0 or x.size(1) == 0:
            return x.new_zeros(pattern.size[0], x.size(1))
        from .triton_kernels import spmm_triton

        return spmm_triton(pattern, value, x, loop, x_dst)
