from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .csr_pattern import CSRPattern
from .sampled_product import sampled_product


class Backend(ABC):
    r"""One way to multiply a sparse matrix by a dense one."""

    def is_available(self, device: torch.device) -> bool:
        r"""Whether it can be used on a device."""
        return True

    def sums_half_in_float(self, device: torch.device) -> bool:
        r"""Whether it multiplies half precision, and sums up in single."""
        return False

    @abstractmethod
    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        r"""The product of a matrix that has entries (all ones if there are
        no values) with a contiguous :math:`\mathbf{X}` of its dtype.
        """

    def sampled_product(
        self,
        pattern: CSRPattern,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        r"""The gradient with respect to the values: entries of
        :math:`\mathbf{A} \mathbf{B}^{\top}` where the matrix has some.
        """
        return sampled_product(pattern, a, b)

    def __call__(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
        loop: Tensor | None = None,
        x_dst: Tensor | None = None,
    ) -> Tensor:
        r"""The product :math:`\mathbf{A} \mathbf{X}` for any matrix, plus
        :math:`\mathrm{diag}(\mathbf{l}) \mathbf{X}_{\mathrm{dst}}` if
        there are self-loops.
        """
        device, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            # Sums over neighbours need their type, whatever autocast says.
            with torch.autocast(device, enabled=False):
                return self(pattern, value, x, loop, x_dst)
        half = dtype in (torch.float16, torch.bfloat16)
        if half and not self.sums_half_in_float(x.device):
            x = x.float()
        if pattern.size[0] == 0 or pattern.nnz == 0 or x.size(1) == 0:
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
    r"""To a type: to ask what it is, is faster than :obj:`to`."""
    return x if x.dtype == dtype else x.to(dtype)
