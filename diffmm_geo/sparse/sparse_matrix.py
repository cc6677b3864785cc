from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.index import index2ptr

from diffmm_geo.utils.checks import (
    as_tensor,
    check_index,
    check_size,
    check_vector,
)

from .csr import CSR


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    r"""A sparse matrix in CSR form together with the CSR form of its
    transpose, so that both the forward and the backward pass of a product
    read rows in order.

    Args:
        pattern (CSR): The sparsity pattern.
        value (torch.Tensor, optional): The values, :obj:`[E]`; all are one
            if not given.
        pattern_t (CSR): The sparsity pattern of the transpose.
        perm (torch.Tensor): The permutation with
            :obj:`value_t = value[perm]`.

    Example:
        >>> import torch
        >>> from diffmm_geo.sparse import SparseMatrix
        >>> row, col = torch.tensor([1, 0]), torch.tensor([0, 2])
        >>> matrix = SparseMatrix.from_coo(row, col, None, (2, 3))
        >>> matrix.size, matrix.t().size
        ((2, 3), (3, 2))
    """

    pattern: CSR
    value: Tensor | None
    pattern_t: CSR
    perm: Tensor
    _value_t: Tensor | None = None

    @property
    def value_t(self) -> Tensor | None:
        r"""The values of the transpose, :obj:`[E]`, computed on first use."""
        if self._value_t is None and self.value is not None:
            # The cache keeps its history even if inference fills it.
            with torch.inference_mode(False):
                value_t = self.value[self.perm]
            object.__setattr__(self, '_value_t', value_t)
        return self._value_t

    @classmethod
    def from_coo(
        cls,
        row: Tensor,
        col: Tensor,
        value: Tensor | None,
        size: tuple[int, int],
        *,
        check_invariants: bool = True,
    ) -> SparseMatrix:
        r"""Builds both forms from coordinates in any order. Duplicates stay
        separate entries, which add up in products.

        Args:
            row (torch.Tensor): The row of each entry.
            col (torch.Tensor): The column of each entry.
            value (torch.Tensor, optional): The value of each entry.
                (default: :obj:`None`, all are one)
            size (tuple): The size :math:`(N, M)`.
            check_invariants (bool, optional): If set to :obj:`False`, indices
                and values are not checked, which avoids a synchronization
                with the device. (default: :obj:`True`)

        Raises:
            ValueError: If indices are out of range, or numbers of entries
                differ.
        """
        row, col = as_tensor(row), as_tensor(col)
        if check_invariants:
            size = check_size('size', size)
            row = check_index('row', row, size[0])
            col = check_index('col', col, size[1], row.device)
            if col.numel() != row.numel():
                raise ValueError(
                    f"'col' needs {row.numel()} entries, as many as 'row' "
                    f'(got {col.numel()})'
                )
            if value is not None:
                check_vector('value', value, row.numel(), row.device)
        order = (row * size[1] + col).argsort(stable=True)
        row, col = row[order], col[order]
        value = None if value is None else value[order]
        size_t = (size[1], size[0])
        perm = (col * size[0] + row).argsort(stable=True)
        return cls(
            CSR(index2ptr(row, size[0]), col, size),
            value,
            CSR(index2ptr(col[perm], size[1]), row[perm], size_t),
            perm,
            None if value is None else value[perm],
        )

    @property
    def size(self) -> tuple[int, int]:
        r"""The size :math:`(N, M)`."""
        return self.pattern.size

    @property
    def device(self) -> torch.device:
        r"""The device."""
        return self.perm.device

    def t(self) -> SparseMatrix:
        r"""The transpose, without sorting."""
        place = torch.arange(self.perm.numel(), device=self.device)
        inverse = torch.empty_like(self.perm).scatter_(0, self.perm, place)
        return SparseMatrix(
            self.pattern_t, self.value_t, self.pattern, inverse, self.value
        )

    def set_value(self, value: Tensor | None) -> SparseMatrix:
        r"""Returns the same pattern with other values, in CSR order."""
        return replace(self, value=value, _value_t=None)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SparseMatrix:
        r"""Moves to a device and/or casts the values."""
        perm = self.perm.to(device)
        value, value_t = (
            None if x is None else x.to(device=device, dtype=dtype)
            for x in (self.value, self._value_t)
        )
        pattern = self.pattern.to(perm.device)
        pattern_t = self.pattern_t.to(perm.device)
        return SparseMatrix(pattern, value, pattern_t, perm, value_t)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(size={self.size}, '
            f'nnz={self.pattern.nnz})'
        )
