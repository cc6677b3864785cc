from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffmm_geo.sparse.csr import CSR, narrow

# A small graph waits for its longest segments: 32 entries are eight round trips
# to memory. Partial sums are then 1/32 of what is read.
MIN_LENGTH, MAX_LENGTH = 32, 256
# Four times the segments that a large GPU holds at a time: 132 multiprocessors
# of 2,048 threads, 16 of which share a segment.
PLENTY = 2**16
# Partial sums that one program adds: 16 round trips for 64 channels.
MAX_PARTS = 1024


class Segments(NamedTuple):
    r"""Segments of rows, sorted by descending length.

    Args:
        start (torch.Tensor): The first entry of each segment, :obj:`[S]`.
        length (torch.Tensor): Its number of entries, :obj:`[S]`.
        target (torch.Tensor): Its row, or :obj:`N` plus its position in the
            buffer if its row is split, :obj:`[S]`.
    """

    start: Tensor
    length: Tensor
    target: Tensor

    @property
    def number(self) -> int:
        r"""The number of segments :math:`S`."""
        return self.start.numel()


class RowSegments(NamedTuple):
    r"""The rows of a CSR form, split into segments of bounded length and
    sorted by descending length. Very active users and popular items then do
    not delay the others, and adjacent segments are about equally long. The
    partial sums of a split row go to a buffer, and further levels of segments
    add them in a fixed order, so results are deterministic. Indices have 32
    bits where they fit.

    Args:
        levels (tuple[Segments, ...]): The segments of entries, and those of
            partial sums in the buffer, until each row has a single one.
        num_parts (int): The number of partial sums in the buffer.
    """

    levels: tuple[Segments, ...]
    num_parts: int

    def level(self, n: int) -> Segments:
        r"""The :obj:`n`-th level, without segments after the last one."""
        if n < len(self.levels):
            return self.levels[n]
        return Segments(*(x[:0] for x in self.levels[0]))


def row_segments(csr: CSR) -> RowSegments:
    r"""Splits the rows into segments of :meth:`segment_length`, once."""
    return csr.derive(_split)


def _split(csr: CSR) -> RowSegments:
    return split_rows(csr.rowptr, segment_length(csr), MAX_PARTS)


def split_rows(rowptr: Tensor, max_length: int, max_parts: int) -> RowSegments:
    r"""Splits the rows, and their partial sums."""
    num_rows, num_parts = rowptr.numel() - 1, 0
    row = torch.arange(num_rows, device=rowptr.device)
    begin, size = rowptr[:-1], rowptr.diff()
    levels: list[list[Tensor]] = []
    while len(levels) == 0 or row.numel() > 0:
        # An empty row has a segment as well, which writes its zeros.
        count = _num_segments(size, max_length)
        owner = torch.arange(row.numel(), device=row.device)
        owner = owner.repeat_interleave(count)
        first = count.cumsum(0) - count
        place = torch.arange(owner.numel(), device=row.device)
        shift = (place - first[owner]) * max_length
        length = (size[owner] - shift).clamp(max=max_length)
        target = row[owner]
        is_part = count[owner] > 1
        position = is_part.cumsum(0) - 1 + num_parts
        target = torch.where(is_part, num_rows + position, target)
        order = length.argsort(descending=True, stable=True)
        level = begin[owner] + shift, length, target
        levels.append([x[order] for x in level])

        split = count > 1
        row, size = row[split], count[split]
        begin = size.cumsum(0) - size + num_parts
        num_parts += int(size.sum())
        max_length = max_parts
    end = max(int(rowptr[-1]), num_rows + num_parts) + 1
    segments = (Segments(*(narrow(x, end) for x in level)) for level in levels)
    return RowSegments(tuple(segments), num_parts)


def segment_length(csr: CSR) -> int:
    r"""The greatest power of two from :obj:`MIN_LENGTH` to :obj:`MAX_LENGTH`
    that leaves :obj:`PLENTY` of segments, since longer segments write fewer
    partial sums.
    """
    degree, length = csr.rowptr.diff(), MAX_LENGTH
    while length > MIN_LENGTH:
        # The bound needs no synchronization.
        bound = csr.size[0] + csr.nnz // length
        if bound >= PLENTY and int(_num_segments(degree, length).sum()) >= (
            PLENTY
        ):
            break
        length //= 2
    return length


def _num_segments(size: Tensor, max_length: int) -> Tensor:
    count = size.add(max_length - 1).div(max_length, rounding_mode='floor')
    return count.clamp(min=1)
