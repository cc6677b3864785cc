from __future__ import annotations

from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern
from .sampled_product import sampled_product_blockwise


class Naive(Backend):
    r"""The readable truth: gather, multiply, add up."""

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        message = x[pattern.col]
        if value is not None:
            message = value.view(-1, 1) * message
        out = message.new_zeros(pattern.size[0], x.size(1))
        return out.index_add(0, pattern.row, message)

    def sampled_product(
        self,
        pattern: CSRPattern,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        return sampled_product_blockwise(pattern, a, b)
