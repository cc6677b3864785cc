r"""Needs :obj:`triton`, and is imported where it is used."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .block_shape import block_shape
from .csr_pattern import CSRPattern

UNROLL = 4
REDUCE_BYTES = 16384


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
def add_self_loops(
    total,
    row,
    is_row,
    channel,
    mask,
    loop_ptr,
    scale_ptr,
    x_ptr,
    NUM_CHANNELS: tl.constexpr,
):
    r"""Ends a sum of :math:`\mathbf{A} \mathbf{X}_{\mathrm{src}}`: adds
    :math:`\mathbf{l} \mathbf{X}_{\mathrm{dst}}`; or, where entries were
    scaled at the other end only, :math:`\mathbf{s}
    \mathbf{X}_{\mathrm{dst}}`, and scales all that by :math:`\mathbf{s}`.
    """
    if scale_ptr is not None:
        x = load_rows(x_ptr, row, channel, mask, NUM_CHANNELS)
        scale = tl.load(scale_ptr + row, mask=is_row, other=0.0)
        scale = scale.to(total.dtype)[:, None]
        total = scale * tl.fma(
            tl.broadcast_to(scale, total.shape), x.to(total.dtype), total
        )
    elif loop_ptr is not None:
        x = load_rows(x_ptr, row, channel, mask, NUM_CHANNELS)
        loop = tl.load(loop_ptr + row, mask=is_row, other=0.0)
        loop = loop.to(total.dtype)[:, None]
        total = tl.fma(
            tl.broadcast_to(loop, total.shape), x.to(total.dtype), total
        )
    return total


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
    UNROLL: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    r"""The sums of a block of segments.

    A few lanes a segment go through its entries: most rows of a user-item
    graph are short, and lanes that shared the entries of a row would mostly
    have none. Segments are sorted by length, so that those of a block end at
    about the same time.
    """
    segment = block * BLOCK_S + tl.arange(0, BLOCK_S)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_segment = segment < num_segments
    start = tl.load(start_ptr + segment, mask=is_segment, other=0)
    length = tl.load(length_ptr + segment, mask=is_segment, other=0)
    longest = tl.load(length_ptr + block * BLOCK_S)

    total = tl.zeros([BLOCK_S, BLOCK_C], dtype=ACC)
    for begin in range(0, longest, UNROLL):
        for i in tl.static_range(UNROLL):
            is_entry = begin + i < length
            entry = start + begin + i
            col = tl.load(col_ptr + entry, mask=is_entry, other=0)
            mask = mask_rows(is_entry, channel, NUM_CHANNELS, BLOCK_C)
            x = load_rows(x_ptr, col, channel, mask, NUM_CHANNELS).to(ACC)
            if value_ptr is not None:
                value = tl.load(value_ptr + entry, mask=is_entry, other=0.0)
                value = tl.broadcast_to(value.to(ACC)[:, None], total.shape)
                total = tl.fma(value, x, total)
            elif col_scale_ptr is not None:
                value = tl.load(col_scale_ptr + col, mask=is_entry, other=0.0)
                value = tl.broadcast_to(value.to(ACC)[:, None], total.shape)
                total = tl.fma(value, x, total)
            else:
                total += x

    target = tl.load(target_ptr + segment, mask=is_segment, other=0)
    is_row = is_segment & (target < num_rows)
    if buffer_ptr is not None:
        mask = mask_rows(
            is_segment & (target >= num_rows), channel, NUM_CHANNELS, BLOCK_C
        )
        store_rows(
            buffer_ptr, target - num_rows, channel, total, mask, NUM_CHANNELS
        )
    mask = mask_rows(is_row, channel, NUM_CHANNELS, BLOCK_C)
    total = add_self_loops(
        total,
        target,
        is_row,
        channel,
        mask,
        loop_ptr,
        row_scale_ptr,
        x_dst_ptr,
        NUM_CHANNELS,
    )
    store_rows(out_ptr, target, channel, total, mask, NUM_CHANNELS)


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
    parts = tl.zeros([BLOCK_P, BLOCK_C], dtype=ACC)
    for first in range(begin, end, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        mask = mask_rows(part < end, channel, NUM_CHANNELS, BLOCK_C)
        parts += load_rows(buffer_ptr, part, channel, mask, NUM_CHANNELS)
    total = tl.sum(parts, axis=0)[None, :]

    row = tl.load(split_row_ptr + split) + tl.arange(0, 1)
    is_row = row >= 0
    mask = mask_rows(is_row, channel, NUM_CHANNELS, BLOCK_C)
    total = add_self_loops(
        total,
        row,
        is_row,
        channel,
        mask,
        loop_ptr,
        row_scale_ptr,
        x_dst_ptr,
        NUM_CHANNELS,
    )
    store_rows(out_ptr, row, channel, total, mask, NUM_CHANNELS)


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
    UNROLL: tl.constexpr,
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
        UNROLL,
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


def new_buffer(pattern: CSRPattern, x: Tensor) -> Tensor | None:
    r"""Where the sums of split rows go, if there are any."""
    num_parts = pattern.segments.num_parts
    if num_parts == 0:
        return None
    dtype = torch.promote_types(x.dtype, torch.float)
    return x.new_empty(num_parts, x.size(1), dtype=dtype)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    r"""The type to sum up in."""
    return tl.float64 if dtype == torch.double else tl.float32


def spmm_triton(
    pattern: CSRPattern,
    value: Tensor | None,
    x: Tensor,
    loop: Tensor | None = None,
    x_dst: Tensor | None = None,
) -> Tensor:
    r"""The product, a block of row segments a program."""
    segments, num_channels = pattern.segments, x.size(1)
    out = x.new_empty(pattern.size[0], num_channels)
    buffer = new_buffer(pattern, x)
    acc = accumulator(x.dtype)
    block_s, block_c = block_shape(num_channels, x.element_size())
    num_blocks = triton.cdiv(segments.num_segments, block_s)
    spmm_kernel[num_blocks, triton.cdiv(num_channels, block_c)](
        segments.start,
        segments.length,
        segments.target,
        pattern.narrow_col,
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
        UNROLL=UNROLL,
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
