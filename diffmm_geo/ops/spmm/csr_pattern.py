from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.index import index2ptr

from .narrow import narrow
from .padded_bags import PaddedBags
from .row_segments import RowSegments

# The longest segments are what a small graph waits for: 32 entries are eight
# round trips to memory. Sums of split rows are then 1/32 of what is read.
MAX_SEGMENT_LENGTH = 32


@dataclass(frozen=True, eq=False)
class CSRPattern:
    r"""Where a sparse matrix has entries, in CSR form. What backends derive
    from it is kept, and so made once a graph, whatever its values.

    Args:
        rowptr (torch.Tensor): The row pointers, :obj:`[N + 1]`.
        col (torch.Tensor): The column indices, :obj:`[E]`.
        size (tuple): The size :math:`(N, M)`.
    """

    rowptr: Tensor
    col: Tensor
    size: tuple[int, int]
    _ones: dict[torch.dtype, Tensor] = field(default_factory=dict, repr=False)
    _bags: dict[int, PaddedBags] = field(default_factory=dict, repr=False)

    @classmethod
    def from_sorted(
        cls, row: Tensor, col: Tensor, size: tuple[int, int]
    ) -> CSRPattern:
        r"""Builds the form from coordinates that are sorted by row."""
        return cls(index2ptr(row, size[0]), col, size)

    @property
    def nnz(self) -> int:
        r"""The number of entries :math:`E`."""
        return self.col.numel()

    @cached_property
    def row(self) -> Tensor:
        r"""The row indices, :obj:`[E]`."""
        return torch.arange(
            self.size[0], device=self.rowptr.device
        ).repeat_interleave(self.rowptr.diff(), output_size=self.nnz)

    @cached_property
    def edge_index(self) -> EdgeIndex:
        r"""The coordinates as an :class:`~torch_geometric.EdgeIndex`."""
        edge_index = EdgeIndex(
            torch.stack([self.row, self.col]),
            sparse_size=self.size,
            sort_order='row',
        )
        edge_index._indptr = self.rowptr
        return edge_index

    @cached_property
    def narrow_row(self) -> Tensor:
        r"""The row indices, in 32 bits where they fit."""
        return narrow(self.row, self.size[0])

    @cached_property
    def narrow_rowptr(self) -> Tensor:
        r"""The row pointers in the type of :obj:`narrow_col`, if they fit."""
        bound = max(self.size[1], self.nnz + 1)
        return narrow(self.rowptr, bound)

    @cached_property
    def narrow_col(self) -> Tensor:
        r"""The column indices, in 32 bits where they fit."""
        return narrow(self.col, self.size[1])

    def ones(self, dtype: torch.dtype) -> Tensor:
        r"""The values of a matrix without, for a library that asks."""
        if dtype not in self._ones:
            self._ones[dtype] = torch.ones(
                self.nnz, dtype=dtype, device=self.col.device
            )
        return self._ones[dtype]

    def padded_bags(self, num_threads: int) -> PaddedBags:
        r"""The rows as bags, shared evenly among so many threads."""
        if num_threads not in self._bags:
            self._bags[num_threads] = PaddedBags.from_rowptr(
                self.narrow_rowptr, num_threads
            )
        return self._bags[num_threads]

    @cached_property
    def segments(self) -> RowSegments:
        r"""The rows in segments."""
        return RowSegments.from_rowptr(self.rowptr, MAX_SEGMENT_LENGTH)

    def to(self, device: torch.device) -> CSRPattern:
        r"""Moves to a device."""
        if device == self.col.device:
            return self
        return CSRPattern(
            self.rowptr.to(device), self.col.to(device), self.size
        )
