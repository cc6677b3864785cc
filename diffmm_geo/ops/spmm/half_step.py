from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from diffmm_geo.sparse import CSR, SparseMatrix


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


def detach(value: Tensor | None) -> Tensor | None:
    r"""Detaches an optional tensor."""
    return None if value is None else value.detach()
