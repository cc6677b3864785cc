from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SparseMatrix:
    r"""A sparse matrix in CSR form together with the CSR form of its
    transpose, so that both directions of a multiplication, forward and
    backward, read their rows one after the other.

    Args:
        rowptr (torch.Tensor): The row pointers, :obj:`[N + 1]`.
        col (torch.Tensor): The column indices, :obj:`[E]`.
        value (torch.Tensor): The values, :obj:`[E]`.
        rowptr_t (torch.Tensor): The row pointers of the transpose,
            :obj:`[M + 1]`.
        col_t (torch.Tensor): The column indices of the transpose,
            :obj:`[E]`.
        value_t (torch.Tensor): The values of the transpose, :obj:`[E]`.
        perm (torch.Tensor): The permutation with
            :obj:`value_t = value[perm]`.
        size (tuple): The size :math:`(N, M)`.
    """

    rowptr: Tensor
    col: Tensor
    value: Tensor
    rowptr_t: Tensor
    col_t: Tensor
    value_t: Tensor
    perm: Tensor
    size: tuple[int, int]

    @classmethod
    def from_coo(
        cls,
        row: Tensor,
        col: Tensor,
        value: Tensor,
        size: tuple[int, int],
    ) -> SparseMatrix:
        r"""Builds both forms from coordinates in any order. Duplicates stay
        what they are: two entries that add up.
        """
        order = _lexsort(row, col, size)
        row, col, value = row[order], col[order], value[order]
        perm = _lexsort(col, row, (size[1], size[0]))
        return cls(
            _rowptr(row, size[0]),
            col,
            value,
            _rowptr(col, size[1]),
            row[perm],
            value[perm],
            perm,
            size,
        )

    def t(self) -> SparseMatrix:
        r"""The transpose. Nothing is sorted."""
        inverse = torch.empty_like(self.perm)
        inverse[self.perm] = torch.arange(
            self.perm.numel(), device=self.perm.device
        )
        return SparseMatrix(
            self.rowptr_t,
            self.col_t,
            self.value_t,
            self.rowptr,
            self.col,
            self.value,
            inverse,
            (self.size[1], self.size[0]),
        )

    def set_value(self, value: Tensor) -> SparseMatrix:
        r"""The same pattern with other values (in CSR order)."""
        return replace(self, value=value, value_t=value[self.perm])

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SparseMatrix:
        r"""Moves to a device and/or casts the values."""
        value = self.value.to(device=device, dtype=dtype)
        moved = {
            name: getattr(self, name).to(value.device)
            for name in ('rowptr', 'col', 'rowptr_t', 'col_t', 'perm')
        }
        return SparseMatrix(
            value=value,
            value_t=self.value_t.to(device=device, dtype=dtype),
            size=self.size,
            **moved,
        )

    def csr(self) -> Tensor:
        r"""The matrix as a :obj:`torch.sparse_csr` tensor."""
        return _csr(self.rowptr, self.col, self.value, self.size)

    def csr_t(self) -> Tensor:
        r"""The transpose as a :obj:`torch.sparse_csr` tensor."""
        return _csr(
            self.rowptr_t,
            self.col_t,
            self.value_t,
            (self.size[1], self.size[0]),
        )

    @property
    def row(self) -> Tensor:
        r"""The row indices in CSR order, :obj:`[E]`."""
        return torch.arange(
            self.size[0], device=self.rowptr.device
        ).repeat_interleave(self.rowptr.diff())

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(size={self.size}, '
            f'nnz={self.col.numel()})'
        )


def _csr(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor,
    size: tuple[int, int],
) -> Tensor:
    # Invariants hold by construction; checking them is a pass of its own.
    return torch.sparse_csr_tensor(
        rowptr, col, value, size, check_invariants=False
    )


def _lexsort(row: Tensor, col: Tensor, size: tuple[int, int]) -> Tensor:
    if size[0] * size[1] < 2**62:
        return (row * size[1] + col).argsort(stable=True)
    order = col.argsort(stable=True)
    return order[row[order].argsort(stable=True)]


def _rowptr(row: Tensor, size: int) -> Tensor:
    rowptr = row.new_zeros(size + 1)
    torch.cumsum(torch.bincount(row, minlength=size), 0, out=rowptr[1:])
    return rowptr
