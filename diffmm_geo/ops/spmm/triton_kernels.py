r"""Needs :obj:`triton`, and is imported where it is used."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffmm_geo.sparse import CSR

from .block_shape import block_shape
from .row_segments import RowSegments

REDUCE_BYTES = 16384
# SDDMM has two rows per entry in flight, and keeps its sums.
SDDMM_BYTES = 8192


@triton.jit
def load_rows(ptr, row, channel, mask, NUM_CHANNELS: tl.constexpr):
    r"""Channels of rows of a contiguous matrix."""
    # In 64 bits: a table may have more than 2^31 elements.
    offset = row.to(tl.int64)[:, None] * NUM_CHANNELS + channel[None, :]
    return tl.load(ptr + offset, mask=mask, other=0.0)


@triton.jit
def store_rows(ptr, row, channel, x, mask, NUM_CHANNELS: tl.constexpr):
    r"""The inverse of :meth:`load_rows`."""
    offset = row.to(tl.int64)[:, None] * NUM_CHANNELS + channel[None, :]
    tl.store(ptr + offset, x, mask=mask)


@triton.jit
def mask_rows(
    is_row, channel, NUM_CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr
):
    r"""Rows that are there, and channels, where a block goes beyond."""
    mask = is_row[:, None]
    if NUM_CHANNELS % BLOCK_C != 0:
        mask = mask & (channel < NUM_CHANNELS)[None, :]
    return mask


@triton.jit
def self_loops(
    row,
    is_row,
    channel,
    mask,
    loop_ptr,
    scale_ptr,
    x_ptr,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""What a sum of :math:`\mathbf{A} \mathbf{X}_{\mathrm{src}}` begins
    with, and what it is multiplied by in the end: :math:`\mathbf{l}
    \mathbf{X}_{\mathrm{dst}}` and one; or, where entries are scaled at their
    other end only, :math:`\mathbf{s} \mathbf{X}_{\mathrm{dst}}` and
    :math:`\mathbf{s}`.
    """
    total = tl.zeros([row.shape[0], BLOCK_C], dtype=ACC)
    scale = tl.full([row.shape[0], 1], 1.0, dtype=ACC)
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + row, mask=is_row, other=1.0)
        scale = scale.to(ACC)[:, None]
        x = load_rows(x_ptr, row, channel, mask, NUM_CHANNELS)
        total = scale * x.to(ACC)
    elif loop_ptr is not None:
        loop = tl.load(loop_ptr + row, mask=is_row, other=0.0)
        x = load_rows(x_ptr, row, channel, mask, NUM_CHANNELS)
        total = loop.to(ACC)[:, None] * x.to(ACC)
    return total, scale


@triton.jit
def load_entry(
    i,
    col,
    start,
    length,
    value_ptr,
    col_scale_ptr,
    x_ptr,
    channel,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""The row of :math:`\mathbf{X}_{\mathrm{src}}` that an entry of each
    segment reads, and its weight.
    """
    is_entry = i < length
    mask = mask_rows(is_entry, channel, NUM_CHANNELS, BLOCK_C)
    x = load_rows(x_ptr, col, channel, mask, NUM_CHANNELS)
    if value_ptr is not None:
        value = tl.load(value_ptr + start + i, mask=is_entry, other=0.0)
    elif col_scale_ptr is not None:
        value = tl.load(col_scale_ptr + col, mask=is_entry, other=0.0)
    else:
        value = is_entry
    return x, value.to(ACC)


@triton.jit
def add_entry(total, x, value):
    r"""Adds a weighted row."""
    value = tl.broadcast_to(value[:, None], total.shape)
    return tl.fma(value, x.to(total.dtype), total)


@triton.jit
def sum_segments(
    block,
    start_ptr,
    length_ptr,
    target_ptr,
    col_ptr,
    value_ptr,
    col_scale_ptr,
    x_ptr,
    loop_ptr,
    row_scale_ptr,
    x_dst_ptr,
    out_ptr,
    buffer_ptr,
    num_segments,
    num_rows,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""The sums of a block of segments.

    A few lanes a segment go through its entries: most rows of a user-item
    graph are short, and lanes that shared the entries of a row would mostly
    have none. Segments are sorted by length, so that those of a block end at
    about the same time.

    A round takes four entries, whose rows are all asked for before the first
    is used. Their indices are read a round ahead: else, every row would wait
    for its index first, and a load after it in line would wait as well.
    """
    segment = block * BLOCK_S + tl.arange(0, BLOCK_S)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_segment = segment < num_segments
    longest = tl.load(length_ptr + block * BLOCK_S)
    length = tl.load(length_ptr + segment, mask=is_segment, other=0)
    start = tl.load(start_ptr + segment, mask=is_segment, other=0)
    target = tl.load(target_ptr + segment, mask=is_segment, other=0)

    ptr = col_ptr + start
    col_0 = tl.load(ptr, mask=0 < length, other=0)
    col_1 = tl.load(ptr + 1, mask=1 < length, other=0)
    col_2 = tl.load(ptr + 2, mask=2 < length, other=0)
    col_3 = tl.load(ptr + 3, mask=3 < length, other=0)
    is_row = is_segment & (target < num_rows)
    row_mask = mask_rows(is_row, channel, NUM_CHANNELS, BLOCK_C)
    total, scale = self_loops(
        target,
        is_row,
        channel,
        row_mask,
        loop_ptr,
        row_scale_ptr,
        x_dst_ptr,
        NUM_CHANNELS,
        ACC,
        BLOCK_C,
    )
    for i in range(0, longest, 4):
        # fmt: off
        x_0, value_0 = load_entry(
            i, col_0, start, length, value_ptr, col_scale_ptr, x_ptr, channel,
            NUM_CHANNELS, ACC, BLOCK_C,
        )
        x_1, value_1 = load_entry(
            i + 1, col_1, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )
        x_2, value_2 = load_entry(
            i + 2, col_2, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )
        x_3, value_3 = load_entry(
            i + 3, col_3, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )
        # fmt: on
        ptr += 4
        col_0 = tl.load(ptr, mask=i + 4 < length, other=0)
        col_1 = tl.load(ptr + 1, mask=i + 5 < length, other=0)
        col_2 = tl.load(ptr + 2, mask=i + 6 < length, other=0)
        col_3 = tl.load(ptr + 3, mask=i + 7 < length, other=0)
        total = add_entry(total, x_0, value_0)
        total = add_entry(total, x_1, value_1)
        total = add_entry(total, x_2, value_2)
        total = add_entry(total, x_3, value_3)

    if buffer_ptr is not None:
        is_part = is_segment & (target >= num_rows)
        mask = mask_rows(is_part, channel, NUM_CHANNELS, BLOCK_C)
        part = target - num_rows
        store_rows(buffer_ptr, part, channel, total, mask, NUM_CHANNELS)
    total *= scale
    store_rows(out_ptr, target, channel, total, row_mask, NUM_CHANNELS)


@triton.jit
def sum_parts(
    split,
    split_row_ptr,
    split_ptr,
    loop_ptr,
    row_scale_ptr,
    x_dst_ptr,
    out_ptr,
    buffer_ptr,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""The sum of a row in several segments, from theirs."""
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    begin = tl.load(split_ptr + split)
    end = tl.load(split_ptr + split + 1)
    row = tl.load(split_row_ptr + split) + tl.arange(0, 1)
    is_row = row >= 0
    row_mask = mask_rows(is_row, channel, NUM_CHANNELS, BLOCK_C)
    total, scale = self_loops(
        row,
        is_row,
        channel,
        row_mask,
        loop_ptr,
        row_scale_ptr,
        x_dst_ptr,
        NUM_CHANNELS,
        ACC,
        BLOCK_C,
    )
    parts = tl.zeros([BLOCK_P, BLOCK_C], dtype=ACC)
    for first in range(begin, end, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        mask = mask_rows(part < end, channel, NUM_CHANNELS, BLOCK_C)
        parts += load_rows(buffer_ptr, part, channel, mask, NUM_CHANNELS)
    total = scale * (total + tl.sum(parts, axis=0)[None, :])
    store_rows(out_ptr, row, channel, total, row_mask, NUM_CHANNELS)


@triton.jit(do_not_specialize=['num_segments', 'num_rows'])
def spmm_kernel(
    start_ptr,
    length_ptr,
    target_ptr,
    col_ptr,
    value_ptr,
    x_ptr,
    loop_ptr,
    x_dst_ptr,
    out_ptr,
    buffer_ptr,
    num_segments,
    num_rows,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""One block of segments of a product."""
    sum_segments(
        tl.program_id(0),
        start_ptr,
        length_ptr,
        target_ptr,
        col_ptr,
        value_ptr,
        None,
        x_ptr,
        loop_ptr,
        None,
        x_dst_ptr,
        out_ptr,
        buffer_ptr,
        num_segments,
        num_rows,
        NUM_CHANNELS,
        ACC,
        BLOCK_S,
        BLOCK_C,
    )


@triton.jit
def spmm_parts_kernel(
    split_row_ptr,
    split_ptr,
    loop_ptr,
    x_dst_ptr,
    out_ptr,
    buffer_ptr,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""One split row of a product."""
    sum_parts(
        tl.program_id(0),
        split_row_ptr,
        split_ptr,
        loop_ptr,
        None,
        x_dst_ptr,
        out_ptr,
        buffer_ptr,
        NUM_CHANNELS,
        ACC,
        BLOCK_P,
        BLOCK_C,
    )


def row_segments(pattern: CSR) -> RowSegments:
    r"""The segments of a pattern, computed once."""
    return pattern.derive(RowSegments.from_csr)


def new_buffer(pattern: CSR, x: Tensor) -> Tensor | None:
    r"""Where the sums of split rows go, if there are any."""
    num_parts = row_segments(pattern).num_parts
    if num_parts == 0:
        return None
    dtype = torch.promote_types(x.dtype, torch.float)
    return x.new_empty(num_parts, x.size(1), dtype=dtype)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    r"""The type to sum up in."""
    return tl.float64 if dtype == torch.double else tl.float32


def spmm_triton(
    pattern: CSR,
    value: Tensor | None,
    x: Tensor,
    loop: Tensor | None = None,
    x_dst: Tensor | None = None,
) -> Tensor:
    r"""The product, a block of row segments a program."""
    segments, num_channels = row_segments(pattern), x.size(1)
    out = x.new_empty(pattern.size[0], num_channels)
    buffer = new_buffer(pattern, x)
    acc = accumulator(x.dtype)
    block_s, block_c = block_shape(num_channels, x.element_size())
    num_blocks = triton.cdiv(segments.num_segments, block_s)
    spmm_kernel[num_blocks, triton.cdiv(num_channels, block_c)](
        segments.start,
        segments.length,
        segments.target,
        pattern.narrow.col,
        value,
        x,
        loop,
        x_dst,
        out,
        buffer,
        segments.num_segments,
        pattern.size[0],
        NUM_CHANNELS=num_channels,
        ACC=acc,
        BLOCK_S=block_s,
        BLOCK_C=block_c,
    )
    if buffer is not None:
        block_p, block_c = block_shape(
            num_channels, buffer.element_size(), REDUCE_BYTES
        )
        num_blocks = triton.cdiv(num_channels, block_c)
        spmm_parts_kernel[segments.split_row.numel(), num_blocks](
            segments.split_row,
            segments.split_ptr,
            loop,
            x_dst,
            out,
            buffer,
            NUM_CHANNELS=num_channels,
            ACC=acc,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
    return out


@triton.jit(do_not_specialize=['num_entries'])
def sddmm_kernel(
    row_ptr,
    col_ptr,
    a_ptr,
    b_ptr,
    out_ptr,
    num_entries,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""A block of entries, whatever their rows are: balanced as it is.
    Neighbours are mostly of one row, which the L1 cache holds.
    """
    entry = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_entry = entry < num_entries
    row = tl.load(row_ptr + entry, mask=is_entry, other=0)
    col = tl.load(col_ptr + entry, mask=is_entry, other=0)
    total = tl.zeros([BLOCK_E, BLOCK_C], dtype=ACC)
    for begin in range(0, NUM_CHANNELS, BLOCK_C):
        channel = begin + tl.arange(0, BLOCK_C)
        mask = mask_rows(is_entry, channel, NUM_CHANNELS, BLOCK_C)
        a = load_rows(a_ptr, row, channel, mask, NUM_CHANNELS)
        b = load_rows(b_ptr, col, channel, mask, NUM_CHANNELS)
        total = tl.fma(a.to(ACC), b.to(ACC), total)
    tl.store(out_ptr + entry, tl.sum(total, axis=1), mask=is_entry)


def sddmm_triton(pattern: CSR, a: Tensor, b: Tensor) -> Tensor:
    r"""A block of entries a program."""
    num_channels = a.size(1)
    dtype = torch.promote_types(a.dtype, torch.float)
    if pattern.nnz == 0 or num_channels == 0:
        return a.new_zeros(pattern.nnz, dtype=dtype)
    out = a.new_empty(pattern.nnz, dtype=dtype)
    block_e, block_c = block_shape(num_channels, a.element_size(), SDDMM_BYTES)
    sddmm_kernel[(triton.cdiv(pattern.nnz, block_e),)](
        pattern.narrow.row,
        pattern.narrow.col,
        a,
        b,
        out,
        pattern.nnz,
        NUM_CHANNELS=num_channels,
        ACC=accumulator(a.dtype),
        BLOCK_E=block_e,
        BLOCK_C=block_c,
    )
    return out
