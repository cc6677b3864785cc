from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from .row_segments import RowSegments

MAX_SEGMENT_LENGTH = 128


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

    @classmethod
    def from_sorted(
        cls, row: Tensor, col: Tensor, size: tuple[int, int]
    ) -> CSRPattern:
        r"""Builds the form from coordinates that are sorted by row."""
        rowptr = row.new_zeros(size[0] + 1)
        count = torch.bincount(row, minlength=size[0])
        torch.cumsum(count, 0, out=rowptr[1:])
        return cls(rowptr, col, size)

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
