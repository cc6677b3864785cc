from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffmm_geo.sparse.csr import CSR, narrow

# A small graph waits for its longest segments: 32 entries are eight round trips
# to memory. Partial sums are then 1/32 of what is read.
MAX_LENGTH = 32


@dataclass(frozen=True, eq=False)
class RowSegments:
    r"""The rows of a CSR form, split into segments of bounded length and
    sorted by descending length. Very active users and popular items then do
    not delay the others, and adjacent segments are about equally long. The
    partial sums of a split row go to a buffer, and are added in a fixed order
    afterwards, so results are deterministic. Indices have 32 bits where they
    fit.

    Args:
        start (torch.Tensor): The first entry of each segment, :obj:`[S]`.
        length (torch.Tensor): Its number of entries, :obj:`[S]`.
        target (torch.Tensor): Its row, or :obj:`N` plus its position in the
            buffer if its row is split, :obj:`[S]`.
        split_row (torch.Tensor): The split rows, :obj:`[R]`.
        split_ptr (torch.Tensor): Pointers to their partial sums in the
            buffer, :obj:`[R + 1]`.
        num_rows (int): The number of rows :math:`N`.
    """

    start: Tensor
    length: Tensor
    target: Tensor
    split_row: Tensor
    split_ptr: Tensor
    num_rows: int

    @property
    def num_segments(self) -> int:
        r"""The number of segments :math:`S`."""
        return self.start.numel()

    @property
    def num_parts(self) -> int:
        r"""The number of partial sums in the buffer."""
        num_whole = self.num_rows - self.split_row.numel()
        return self.num_segments - num_whole

    @classmethod
    def from_csr(cls, csr: CSR) -> RowSegments:
        r"""Splits the rows into segments of :obj:`MAX_LENGTH`."""
        return cls.from_rowptr(csr.rowptr, MAX_LENGTH)

    @classmethod
    def from_rowptr(cls, rowptr: Tensor, max_length: int) -> RowSegments:
        r"""Splits the rows."""
        degree = rowptr.diff()
        # An empty row has a segment as well, which writes its zeros.
        count = degree.add(max_length - 1).div(
            max_length, rounding_mode='floor'
        )
        count = count.clamp(min=1)
        row = torch.arange(degree.numel(), device=rowptr.device)
        row = row.repeat_interleave(count)
        first = count.cumsum(0) - count
        place = torch.arange(row.numel(), device=rowptr.device) - first[row]
        start = rowptr[row] + place * max_length
        length = (rowptr[row + 1] - start).clamp(max=max_length)

        split = count > 1
        split_row = split.nonzero().view(-1)
        split_ptr = rowptr.new_zeros(split_row.numel() + 1)
        torch.cumsum(count[split_row], 0, out=split_ptr[1:])
        target = row.clone()
        in_buffer = split[row]
        target[in_buffer] = degree.numel() + torch.arange(
            int(split_ptr[-1]), device=rowptr.device
        )
        order = length.argsort(descending=True, stable=True)
        end = max(int(rowptr[-1]), degree.numel() + row.numel()) + 1
        return cls(
            narrow(start[order], end),
            narrow(length[order], end),
            narrow(target[order], end),
            narrow(split_row, end),
            narrow(split_ptr, end),
            degree.numel(),
        )
