r"""Needs :obj:`triton`, and is imported where it is used."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .csr_pattern import CSRPattern

BLOCK_SEGMENTS = 16
MAX_BLOCK_CHANNELS = 128


@triton.jit
def _sum_segments(
    start_ptr,
    length_ptr,
    target_ptr,
    col_ptr,
    value_ptr,
    x_ptr,
    out_ptr,
    buffer_ptr,
    num_segments,
    num_rows,
    num_channels,
    ACC: tl.constexpr,
    UNROLL: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    segment = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_segment = segment < num_segments
    is_channel = (channel < num_channels)[None, :]

    start = tl.load(start_ptr + segment, mask=is_segment, other=0)
    length = tl.load(length_ptr + segment, mask=is_segment, other=0)
    total = tl.zeros([BLOCK_S, BLOCK_C], dtype=ACC)
    for begin in range(0, tl.max(length), UNROLL):
        for i in tl.static_range(UNROLL):
            is_entry = begin + i < length
            entry = start + begin + i
            col = tl.load(col_ptr + entry, mask=is_entry, other=0)
            value = tl.load(value_ptr + entry, mask=is_entry, other=0.0)
            x = tl.load(
                x_ptr + col[:, None] * num_channels + channel[None, :],
                mask=is_entry[:, None] & is_channel,
                other=0.0,
            )
            total += value.to(ACC)[:, None] * x.to(ACC)

    target = tl.load(target_ptr + segment, mask=is_segment, other=0)
    is_row = is_segment & (target < num_rows)
    tl.store(
        out_ptr + target[:, None] * num_channels + channel[None, :],
        total,
        mask=is_row[:, None] & is_channel,
    )
    place = target - num_rows
    tl.store(
        buffer_ptr + place[:, None] * num_channels + channel[None, :],
        total,
        mask=(is_segment & (target >= num_rows))[:, None] & is_channel,
    )


@triton.jit
def _sum_buffer(
    row_ptr,
    split_ptr,
    buffer_ptr,
    out_ptr,
    num_channels,
    ACC: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    split = tl.program_id(0)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_channel = channel < num_channels
    row = tl.load(row_ptr + split)
    total = tl.zeros([BLOCK_C], dtype=ACC)
    for place in range(
        tl.load(split_ptr + split), tl.load(split_ptr + split + 1)
    ):
        total += tl.load(
            buffer_ptr + place * num_channels + channel,
            mask=is_channel,
            other=0.0,
        )
    tl.store(out_ptr + row * num_channels + channel, total, mask=is_channel)


def spmm_triton(pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
    r"""The product, a block of row segments a program."""
    segments, num_channels = pattern.segments, x.size(1)
    out = x.new_empty(pattern.size[0], num_channels)
    acc = torch.promote_types(x.dtype, torch.float)
    num_split = segments.split_row.numel()
    num_parts = segments.start.numel() - pattern.size[0] + num_split
    buffer = x.new_empty(max(num_parts, 1), num_channels, dtype=acc)

    block_c = min(triton.next_power_of_2(num_channels), MAX_BLOCK_CHANNELS)
    channel_blocks = triton.cdiv(num_channels, block_c)
    acc_type = tl.float64 if acc == torch.double else tl.float32
    num_segments = segments.start.numel()
    _sum_segments[triton.cdiv(num_segments, BLOCK_SEGMENTS), channel_blocks](
        segments.start,
        segments.length,
        segments.target,
        pattern.col,
        value,
        x,
        out,
        buffer,
        num_segments,
        pattern.size[0],
        num_channels,
        ACC=acc_type,
        UNROLL=4,
        BLOCK_S=BLOCK_SEGMENTS,
        BLOCK_C=block_c,
    )
    if num_split > 0:
        _sum_buffer[num_split, channel_blocks](
            segments.split_row,
            segments.split_ptr,
            buffer,
            out,
            num_channels,
            ACC=acc_type,
            BLOCK_C=block_c,
        )
    return out
