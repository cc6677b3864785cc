from __future__ import annotations

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .backend import Backend, HalfStep, cast


class Naive(Backend):
    r"""The readable reference: gather, multiply, sum, and add self-loops. Its
    derivatives of any order are those of its operations.
    """

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        message = x[..., pattern.col, :]
        if value is not None:
            message = value.view(-1, 1) * message
        size = (*x.size()[:-2], pattern.size[0], x.size(-1))
        return message.new_zeros(size).index_add(-2, pattern.row, message)

    def __call__(
        self, half: HalfStep, x: Tensor, x_dst: Tensor | None = None
    ) -> Tensor:
        pattern, value, loop, _ = half
        # Cast before the gather, so that its backward sums in this type as
        # well.
        dtype = torch.promote_types(x.dtype, torch.float)
        value = None if value is None else cast(value, dtype)
        with torch.autocast(x.device.type, enabled=False):
            out = self.matmul(pattern, value, cast(x, dtype))
            if loop is not None:
                assert x_dst is not None
                weight = cast(loop, dtype).view(-1, 1)
                out = out + weight * cast(x_dst, dtype)
            return cast(out, x.dtype)
