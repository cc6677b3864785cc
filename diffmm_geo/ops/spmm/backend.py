from __future__ import annotations

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .half_step import HalfStep
from .sddmm import sddmm


class Backend:
    r"""One way to multiply a sparse matrix by a dense one."""

    def is_available(self, device: torch.device) -> bool:
        r"""Whether it runs on a device."""
        return True

    def sums_half_in_float(self, device: torch.device) -> bool:
        r"""Whether it accumulates half-precision products in single
        precision. Otherwise, inputs are converted first.
        """
        return False

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        r"""The product of a matrix that has entries (of ones without values)
        with a contiguous :math:`\mathbf{X}` of the type of the values.
        """
        raise NotImplementedError

    def sddmm(self, pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
        r"""The gradient with respect to the values: the entries of
        :math:`\mathbf{A} \mathbf{B}^{\top}` at those of the matrix.
        """
        return sddmm(pattern, a, b)

    def __call__(
        self, half: HalfStep, x: Tensor, x_dst: Tensor | None = None
    ) -> Tensor:
        r"""The product, plus self-loops if there are any."""
        pattern, value, loop, _ = half
        device, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            # Autocast would lower the precision of sums over neighbors.
            with torch.autocast(device, enabled=False):
                return self(half, x, x_dst)
        is_half = dtype in (torch.float16, torch.bfloat16)
        if is_half and not self.sums_half_in_float(x.device):
            x = x.float()
        if 0 in (pattern.size[0], pattern.col.numel(), x.size(1)):
            out = x.new_zeros(pattern.size[0], x.size(1))
        else:
            value = None if value is None else cast(value, x.dtype)
            out = self.matmul(pattern, value, x)
        if loop is not None:
            assert x_dst is not None
            weight = cast(loop, out.dtype).view(-1, 1)
            out.addcmul_(weight, cast(x_dst, out.dtype))
        return cast(out, dtype)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Converts to a type. The comparison is faster than a call of
    :obj:`to`.
    """
    return x if x.dtype == dtype else x.to(dtype)
