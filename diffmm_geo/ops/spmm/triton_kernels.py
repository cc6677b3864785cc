r"""Import on use, since :obj:`triton` is optional."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from diffmm_geo.sparse import CSR

from .backend import HalfStep
from .block_shape import BLOCK_BYTES, block_shape, extra_channels
from .row_segments import row_segments

REDUCE_BYTES = 16384
# SDDMM keeps two rows per entry in flight, and its sums in registers.
SDDMM_BYTES = 8192


@triton.jit
def load_rows(ptr, row, channel, mask, NUM_CHANNELS: tl.constexpr):
    r"""Loads channels of rows of a contiguous matrix."""
    # A table may have more than 2^31 elements.
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
    r"""Masks rows, and channels beyond the last."""
    mask = is_row[:, None]
    if NUM_CHANNELS % BLOCK_C != 0:
        mask = mask & (channel < NUM_CHANNELS)[None, :]
    return mask


@triton.jit
def self_loops(
    row, is_row, channel, mask, loop_ptr, scale_ptr, x_ptr,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Returns the initial value and the final factor of a sum: the self-loops
    :math:`\mathbf{l} \mathbf{X}_{\mathrm{dst}}` and one, or
    :math:`\mathbf{s} \mathbf{X}_{\mathrm{dst}}` and :math:`\mathbf{s}` if
    entries are scaled at their source only.
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
    i, col, start, length, value_ptr, col_scale_ptr, x_ptr, channel,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Loads the i-th source row of each segment, and its weight."""
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
    block, start_ptr, length_ptr, target_ptr, col_ptr, value_ptr, col_scale_ptr,
    x_ptr, loop_ptr, row_scale_ptr, x_dst_ptr, out_ptr, buffer_ptr,
    num_segments, num_rows,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums a block of segments.

    Lanes split the channels of a segment, not its entries: most rows of a
    user-item graph are short, and would leave lanes idle. Segments are sorted
    by length, so that those of a block end at about the same time.

    Each round requests the rows of four entries before it uses the first.
    Indices are loaded one round ahead. Otherwise, each row, and the loads
    behind it, would wait for an index.
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
        target, is_row, channel, row_mask, loop_ptr, row_scale_ptr, x_dst_ptr,
        NUM_CHANNELS, ACC, BLOCK_C,
    )  # fmt: skip
    for i in range(0, longest, 4):
        x_0, value_0 = load_entry(
            i, col_0, start, length, value_ptr, col_scale_ptr, x_ptr, channel,
            NUM_CHANNELS, ACC, BLOCK_C,
        )  # fmt: skip
        x_1, value_1 = load_entry(
            i + 1, col_1, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )  # fmt: skip
        x_2, value_2 = load_entry(
            i + 2, col_2, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )  # fmt: skip
        x_3, value_3 = load_entry(
            i + 3, col_3, start, length, value_ptr, col_scale_ptr, x_ptr,
            channel, NUM_CHANNELS, ACC, BLOCK_C,
        )  # fmt: skip
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
    segment, start_ptr, length_ptr, target_ptr, loop_ptr, row_scale_ptr,
    x_dst_ptr, out_ptr, buffer_ptr, num_rows,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums a segment of the partial sums of a row."""
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    begin = tl.load(start_ptr + segment)
    end = begin + tl.load(length_ptr + segment)
    row = tl.load(target_ptr + segment) + tl.arange(0, 1)
    is_row = row < num_rows
    row_mask = mask_rows(is_row, channel, NUM_CHANNELS, BLOCK_C)
    total, scale = self_loops(
        row, is_row, channel, row_mask, loop_ptr, row_scale_ptr, x_dst_ptr,
        NUM_CHANNELS, ACC, BLOCK_C,
    )  # fmt: skip
    parts = tl.zeros([BLOCK_P, BLOCK_C], dtype=ACC)
    for first in range(begin, end, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        mask = mask_rows(part < end, channel, NUM_CHANNELS, BLOCK_C)
        parts += load_rows(buffer_ptr, part, channel, mask, NUM_CHANNELS)
    total = scale * (total + tl.sum(parts, axis=0)[None, :])
    part_mask = mask_rows(row >= num_rows, channel, NUM_CHANNELS, BLOCK_C)
    store_rows(
        buffer_ptr, row - num_rows, channel, total, part_mask, NUM_CHANNELS
    )
    store_rows(out_ptr, row, channel, total, row_mask, NUM_CHANNELS)


@triton.jit(do_not_specialize=['num_segments', 'num_rows'])
def spmm_kernel(
    start_ptr, length_ptr, target_ptr, col_ptr, value_ptr, x_ptr, loop_ptr,
    x_dst_ptr, out_ptr, buffer_ptr, num_segments, num_rows,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums one block of segments."""
    sum_segments(
        tl.program_id(0), start_ptr, length_ptr, target_ptr, col_ptr, value_ptr,
        None, x_ptr, loop_ptr, None, x_dst_ptr, out_ptr, buffer_ptr,
        num_segments, num_rows, NUM_CHANNELS, ACC, BLOCK_S, BLOCK_C,
    )  # fmt: skip


@triton.jit(do_not_specialize=['num_rows'])
def spmm_parts_kernel(
    start_ptr, length_ptr, target_ptr, loop_ptr, x_dst_ptr, out_ptr,
    buffer_ptr, num_rows,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums one segment of partial sums."""
    sum_parts(
        tl.program_id(0), start_ptr, length_ptr, target_ptr, loop_ptr, None,
        x_dst_ptr, out_ptr, buffer_ptr, num_rows, NUM_CHANNELS, ACC, BLOCK_P,
        BLOCK_C,
    )  # fmt: skip


def new_buffer(pattern: CSR, x: Tensor) -> Tensor | None:
    r"""Allocates the partial sums of split rows, if there are any."""
    num_parts = row_segments(pattern).num_parts
    if num_parts == 0:
        return None
    dtype = torch.promote_types(x.dtype, torch.float)
    return x.new_empty(num_parts, x.size(1), dtype=dtype)


def segments_shape(x: Tensor) -> tuple[int, int]:
    r"""The number of segments and channels per block."""
    num_channels = x.size(1)
    # Lanes read an odd number of channels one by one. Half as many rows leave
    # registers for their addresses.
    size = BLOCK_BYTES // (1 + num_channels % 2)
    return block_shape(num_channels, x.element_size(), size)


def parts_shape(x: Tensor) -> tuple[int, int]:
    r"""The number of partial sums and channels per block."""
    return block_shape(x.size(1), max(4, x.element_size()), REDUCE_BYTES)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    r"""The type of sums."""
    return tl.float64 if dtype == torch.double else tl.float32


def spmm_triton(
    half: HalfStep, x: Tensor, x_dst: Tensor | None = None
) -> Tensor:
    r"""Computes the product; each program sums one block of segments."""
    pattern, value, loop, _ = half
    extra = extra_channels(pattern, x)
    if extra > 0:
        x = F.pad(x, (0, extra))
        if x_dst is not None:
            x_dst = F.pad(x_dst, (0, extra))
        out = spmm_triton(half, x, x_dst)
        return out[:, :-extra].contiguous()
    segments, num_channels = row_segments(pattern), x.size(1)
    num_rows, acc = pattern.size[0], accumulator(x.dtype)
    out = x.new_empty(num_rows, num_channels)
    buffer = new_buffer(pattern, x)
    block_s, block_c = segments_shape(x)
    first, *rest = segments.levels
    grid = (
        triton.cdiv(first.number, block_s),
        triton.cdiv(num_channels, block_c),
    )
    with torch.cuda.device_of(x):
        spmm_kernel[grid](
            *first, pattern.narrow.col, value, x, loop, x_dst, out, buffer,
            first.number, num_rows,
            NUM_CHANNELS=num_channels, ACC=acc, BLOCK_S=block_s,
            BLOCK_C=block_c,
        )  # fmt: skip
        block_p, block_c = parts_shape(x)
        for level in rest:
            grid = level.number, triton.cdiv(num_channels, block_c)
            spmm_parts_kernel[grid](
                *level, loop, x_dst, out, buffer, num_rows,
                NUM_CHANNELS=num_channels, ACC=acc, BLOCK_P=block_p,
                BLOCK_C=block_c,
            )  # fmt: skip
    return out


@triton.jit(do_not_specialize=['num_entries'])
def sddmm_kernel(
    row_ptr, col_ptr, a_ptr, b_ptr, out_ptr, num_entries,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_E: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Computes one block of entries of any rows, which balances the load.
    Adjacent entries mostly share a row, which the L1 cache holds.
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
    r"""Computes SDDMM; each program computes one block of entries."""
    extra = extra_channels(pattern, a)
    if extra > 0:
        a, b = (F.pad(x, (0, extra)) for x in (a, b))
    num_channels = a.size(1)
    dtype = torch.promote_types(a.dtype, torch.float)
    if pattern.nnz == 0 or num_channels == 0:
        return a.new_zeros(pattern.nnz, dtype=dtype)
    out = a.new_empty(pattern.nnz, dtype=dtype)
    block_e, block_c = block_shape(num_channels, a.element_size(), SDDMM_BYTES)
    with torch.cuda.device_of(a):
        sddmm_kernel[(triton.cdiv(pattern.nnz, block_e),)](
            pattern.narrow.row, pattern.narrow.col, a, b, out, pattern.nnz,
            NUM_CHANNELS=num_channels, ACC=accumulator(a.dtype),
            BLOCK_E=block_e, BLOCK_C=block_c,
        )  # fmt: skip
    return out
