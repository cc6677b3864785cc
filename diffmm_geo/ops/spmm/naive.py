from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern


class Naive(Backend):
    r"""The readable truth: gather, multiply, add up."""

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        message = value.view(-1, 1) * x[pattern.col]
        out = message.new_zeros(pattern.size[0], x.size(1))
        return out.index_add(0, pattern.row, message)
