from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.index import index2ptr

from diffmm_geo.utils.checks import as_tensor

T = TypeVar('T')


@dataclass(frozen=True, eq=False)
class CSR:
    r"""The sparsity pattern of a matrix in compressed sparse row form, such
    as the items of each user: the columns of row :math:`u` are
    :obj:`col[rowptr[u]:rowptr[u + 1]]`.

    Args:
        rowptr (torch.Tensor): The row pointers, :obj:`[N + 1]`.
        col (torch.Tensor): The column indices, :obj:`[E]`.
        size (tuple): The size :math:`(N, M)`.

    Example:
        >>> import torch
        >>> from diffmm_geo.sparse import CSR
        >>> edge_index = torch.tensor([[1, 0, 1], [2, 0, 1]])
        >>> csr = CSR.from_edge_index(edge_index, (2, 3))
        >>> csr.rowptr, csr.col
        (tensor([0, 1, 3]), tensor([0, 2, 1]))
    """

    rowptr: Tensor
    col: Tensor
    size: tuple[int, int]
    _derived: dict[tuple[Any, ...], Any] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        size: tuple[int, int],
        *,
        coalesce: bool = False,
    ) -> CSR:
        r"""Sorts edges by row, without checking their indices.

        Args:
            edge_index (torch.Tensor): The edges, :obj:`[2, E]`.
            size (tuple): The size :math:`(N, M)`.
            coalesce (bool, optional): Whether to remove duplicates and to
                sort columns. Otherwise, columns keep their order within a
                row. (default: :obj:`False`)
        """
        edge_index = as_tensor(edge_index)
        if coalesce:
            # Sorting one key is faster than sorting a pair of indices.
            key = (edge_index[0] * size[1] + edge_index[1]).unique()
            row = key.div(size[1], rounding_mode='floor')
            col = key.sub_(row * size[1])
        else:
            row, order = edge_index[0].sort(stable=True)
            col = edge_index[1][order]
        return cls(index2ptr(row, size[0]), col, size)

    @property
    def nnz(self) -> int:
        r"""The number of entries :math:`E`."""
        return self.col.numel()

    @cached_property
    def row(self) -> Tensor:
        r"""The row indices, :obj:`[E]`."""
        count = self.rowptr.diff()
        row = torch.arange(self.size[0], dtype=count.dtype, device=count.device)
        return row.repeat_interleave(count, output_size=self.nnz)

    @cached_property
    def narrow(self) -> CSR:
        r"""The same pattern, with 32-bit indices where they fit. This halves
        the memory traffic.
        """
        end = max(*self.size, self.nnz + 1)
        return CSR(narrow(self.rowptr, end), narrow(self.col, end), self.size)

    @cached_property
    def edge_index(self) -> EdgeIndex:
        r"""The entries as an :class:`~torch_geometric.EdgeIndex`."""
        edge_index = torch.stack([self.row, self.col])
        return EdgeIndex(edge_index, sparse_size=self.size, sort_order='row')

    def ones(self, dtype: torch.dtype) -> Tensor:
        r"""Values of one, :obj:`[E]`, computed once for each type."""
        return self.derive(_ones, dtype)

    def derive(self, make: Callable[..., T], *args: Hashable) -> T:
        r"""Returns :obj:`make(self, *args)`, computed once."""
        key = make, *args
        out: T | None = self._derived.get(key)
        if out is None:
            out = self._derived[key] = make(self, *args)
        return out

    def parts_like(self, other: CSR) -> dict[str, Any]:
        r"""All that another form holds and has derived so far, of this one."""
        derived = {key: self.derive(*key) for key in other._derived}
        parts = {name: getattr(self, name) for name in vars(other)}
        return {**parts, '_derived': derived}

    def dense(self, like: Tensor) -> Tensor:
        r"""The dense matrix, :obj:`[N, M]`, with ones at the entries, in the
        type and on the device of :obj:`like`.
        """
        out = like.new_zeros(self.size)
        out[self.row, self.col] = 1.0
        return out

    def take(self, rows: Tensor) -> CSR:
        r"""Selects rows, in the given order."""
        start = self.rowptr[rows]
        count = self.rowptr[rows + 1] - start
        rowptr = count.new_zeros(rows.numel() + 1)
        torch.cumsum(count, 0, out=rowptr[1:])
        shift = (start - rowptr[:-1]).repeat_interleave(count)
        place = torch.arange(shift.numel(), device=shift.device)
        size = rows.numel(), self.size[1]
        return CSR(rowptr, self.col[place + shift], size)

    def take_columns(self, columns: Tensor) -> CSR:
        r"""Selects distinct columns, in the given order."""
        place = self.col.new_full((self.size[1],), -1)
        place[columns] = torch.arange(columns.numel(), device=place.device)
        out = self.filter(place[self.col] >= 0)
        return CSR(out.rowptr, place[out.col], (out.size[0], columns.numel()))

    def filter(self, mask: Tensor) -> CSR:
        r"""Keeps the entries where :obj:`mask`, :obj:`[E]`, is true."""
        total = self.rowptr.new_zeros(self.nnz + 1)
        torch.cumsum(mask, 0, out=total[1:])
        return CSR(total[self.rowptr], self.col[mask], self.size)

    def distinct(self) -> tuple[CSR, Tensor]:
        r"""Removes duplicate rows. Results that depend on a row's columns
        alone then need not be computed for each row.

        Shapes:
            - **output:** :math:`D \leq N` distinct rows, and the index of each
              row's representative, :math:`(N)`
        """
        device = self.col.device
        rows = torch.arange(self.size[0], device=device)
        # A row's key is the sum of a random word for each of its columns.
        generator = torch.Generator(device).manual_seed(0)
        word = torch.randint(
            -(2**62), 2**62, (self.size[1],), generator=generator, device=device
        )
        total = word.new_zeros(self.nnz + 1)
        torch.cumsum(word[self.col], 0, out=total[1:])
        key, inverse = total[self.rowptr].diff().unique(return_inverse=True)
        first = rows.new_full((key.numel(),), self.size[0])
        first = first.scatter_reduce(0, inverse, rows, 'amin')
        # Keys may collide, so rows are compared as well.
        like = self.take(first[inverse])
        if like.rowptr.equal(self.rowptr) and like.col.equal(self.col):
            return self.take(first), inverse
        return self, rows

    def blocks(self, height: int) -> Iterator[tuple[slice, CSR]]:
        r"""Yields blocks of :obj:`height` rows. Synchronizes with the device
        once, before the first block.
        """
        starts = range(0, self.size[0], height)
        ends = [*self.rowptr[:-1:height].tolist(), self.nnz]
        for start, first, last in zip(starts, ends, ends[1:]):
            rowptr = self.rowptr[start : start + height + 1] - first
            size = rowptr.numel() - 1, self.size[1]
            rows = slice(start, start + size[0])
            yield rows, CSR(rowptr, self.col[first:last], size)

    def to(self, device: torch.device) -> CSR:
        r"""Moves to a device."""
        if device == self.col.device:
            return self
        return CSR(self.rowptr.to(device), self.col.to(device), self.size)


def narrow(index: Tensor, end: int) -> Tensor:
    r"""Casts indices in :obj:`[0, end)` to 32 bits where they fit."""
    fits = end <= torch.iinfo(torch.int32).max
    return index.to(torch.int32) if fits else index


def _ones(csr: CSR, dtype: torch.dtype) -> Tensor:
    return torch.ones(csr.nnz, dtype=dtype, device=csr.col.device)
