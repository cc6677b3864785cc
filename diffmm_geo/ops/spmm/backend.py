from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .csr_pattern import CSRPattern


class Backend(ABC):
    r"""One way to multiply a sparse matrix by a dense one."""

    def is_available(self, device: torch.device) -> bool:
        r"""Whether it can be used on a device."""
        return True

    def sums_half_in_float(self, device: torch.device) -> bool:
        r"""Whether it multiplies half precision, and sums up in single."""
        return False

    @abstractmethod
    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        r"""The product of a matrix that has entries with a contiguous
        :math:`\mathbf{X}` of its dtype.
        """

    def __call__(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        r"""The product with :math:`\mathbf{X}`, for any matrix."""
        if pattern.size[0] == 0 or pattern.nnz == 0 or x.size(1) == 0:
            return x.new_zeros(pattern.size[0], x.size(1))
        half = x.dtype in (torch.float16, torch.bfloat16)
        if half and not self.sums_half_in_float(x.device):
            out = self.matmul(pattern, value.float(), x.float())
            return out.to(x.dtype)
        return self.matmul(pattern, value, x)
