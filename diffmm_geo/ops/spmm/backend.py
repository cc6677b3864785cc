from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR, SparseMatrix

from .sddmm import sddmm

T = TypeVar('T', Tensor, Tensor | None)


class HalfStep(NamedTuple):
    r"""The operands of one side of a step,
    :math:`\mathbf{A} \mathbf{X}_{\mathrm{src}} + \mathrm{diag}(\mathbf{l})
    \mathbf{X}_{\mathrm{dst}}`.

    Args:
        pattern (CSR): The sparsity pattern of :math:`\mathbf{A}`.
        value (torch.Tensor, optional): The values; all are one if not given.
        loop (torch.Tensor, optional): The self-loops :math:`\mathbf{l}`.
        scale (torch.Tensor, optional): The scale :math:`\mathbf{s}` of
            destination rows if :math:`\mathbf{A} = \mathrm{diag}(\mathbf{s})
            \mathbf{A}^{\prime} \mathrm{diag}(\mathbf{s}_{\mathrm{src}})` with
            a binary :math:`\mathbf{A}^{\prime}`, and
            :math:`\mathbf{l} = \mathbf{s}^2`.
    """

    pattern: CSR
    value: Tensor | None
    loop: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def of(
        cls,
        matrix: SparseMatrix,
        loop: Tensor | None,
        scale: Tensor | None,
        transpose: bool = False,
    ) -> HalfStep:
        r"""Takes a matrix or its transpose, and detaches all."""
        if transpose:
            pattern, value = matrix.pattern_t, matrix.value_t
        else:
            pattern, value = matrix.pattern, matrix.value
        # Trained values may differ from the products of scales.
        if any(v is not None and v.requires_grad for v in (value, loop)):
            scale = None
        return cls(pattern, detach(value), detach(loop), detach(scale))


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


def detach(x: T) -> T:
    r"""Detaches an optional tensor, which takes a while, where it has to."""
    return x.detach() if x is not None and x.requires_grad else x
