from torch import Tensor

from diffmm_geo.sparse import CSR

from .backend import Backend
from .sddmm import sddmm_blockwise


class Naive(Backend):
    r"""The readable reference: gather, multiply and sum."""

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        message = x[pattern.col]
        if value is not None:
            message = value.view(-1, 1) * message
        out = message.new_zeros(pattern.size[0], x.size(1))
        return out.index_add(0, pattern.row, message)

    def sddmm(self, pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
        return sddmm_blockwise(pattern, a, b)
