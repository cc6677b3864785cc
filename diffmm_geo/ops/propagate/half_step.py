from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffmm_geo.ops.spmm.spmm import detach
from diffmm_geo.sparse import CSR, SparseMatrix


@dataclass(frozen=True, eq=False)
class HalfStep:
    r"""What one side of a step reads,
    :math:`\mathbf{A} \mathbf{X}_{\mathrm{src}} + \mathrm{diag}(\mathbf{l})
    \mathbf{X}_{\mathrm{dst}}`, without its history.

    Args:
        pattern (CSR): Where :math:`\mathbf{A}` has entries.
        value (torch.Tensor, optional): The values; all are one if there are
            none. (default: :obj:`None`)
        loop (torch.Tensor, optional): The self-loops :math:`\mathbf{l}`.
            (default: :obj:`None`)
        scale (torch.Tensor, optional): The scale :math:`\mathbf{s}` of its
            own rows, where :math:`\mathbf{A} = \mathrm{diag}(\mathbf{s})
            \mathbf{A}^{\prime} \mathrm{diag}(\mathbf{s}_{\mathrm{src}})` of
            ones, and :math:`\mathbf{l} = \mathbf{s}^2`.
            (default: :obj:`None`)
    """

    pattern: CSR
    value: Tensor | None = None
    loop: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def of(
        cls,
        matrix: SparseMatrix,
        loop: Tensor | None,
        scale: Tensor | None,
    ) -> HalfStep:
        r"""That of a matrix."""
        return cls._of(matrix.pattern, matrix.value, loop, scale)

    @classmethod
    def of_transpose(
        cls,
        matrix: SparseMatrix,
        loop: Tensor | None,
        scale: Tensor | None,
    ) -> HalfStep:
        r"""That of the transpose of a matrix."""
        return cls._of(matrix.pattern_t, matrix.value_t, loop, scale)

    @classmethod
    def _of(
        cls,
        pattern: CSR,
        value: Tensor | None,
        loop: Tensor | None,
        scale: Tensor | None,
    ) -> HalfStep:
        # What is trained does not stay what the scale says.
        if any(v is not None and v.requires_grad for v in (value, loop)):
            scale = None
        return cls(pattern, detach(value), detach(loop), detach(scale))
