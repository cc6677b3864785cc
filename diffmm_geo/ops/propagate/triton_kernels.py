r"""Import on use, since :obj:`triton` is optional."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from diffmm_geo.ops.spmm.backend import HalfStep
from diffmm_geo.ops.spmm.block_shape import extra_channels
from diffmm_geo.ops.spmm.row_segments import row_segments
from diffmm_geo.ops.spmm.triton_kernels import (
    accumulator,
    new_buffer,
    parts_shape,
    segments_shape,
    sum_parts,
    sum_segments,
)

SIZES = ['num_user_segments', 'num_item_segments', 'num_users', 'num_items']


@triton.jit
def take_turns(pid, num_a, num_b):
    r"""Alternates between the blocks of both sides, since each side begins with
    its longest segments.
    """
    both = 2 * tl.minimum(num_a, num_b)
    is_a = tl.where(pid < both, pid % 2 == 0, num_a > num_b)
    return is_a, tl.where(pid < both, pid // 2, pid - both // 2)


@triton.jit(do_not_specialize=SIZES)
def propagate_kernel(
    user_start_ptr, user_length_ptr, user_target_ptr, user_col_ptr,
    user_value_ptr, user_loop_ptr, user_scale_ptr, x_user_ptr, out_user_ptr,
    user_buffer_ptr, num_user_segments, num_users,
    item_start_ptr, item_length_ptr, item_target_ptr, item_col_ptr,
    item_value_ptr, item_loop_ptr, item_scale_ptr, x_item_ptr, out_item_ptr,
    item_buffer_ptr, num_item_segments, num_items,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums one block of segments, of users or of items."""
    is_user, block = take_turns(
        tl.program_id(0),
        tl.cdiv(num_user_segments, BLOCK_S),
        tl.cdiv(num_item_segments, BLOCK_S),
    )
    if is_user:
        sum_segments(
            block, user_start_ptr, user_length_ptr, user_target_ptr,
            user_col_ptr, user_value_ptr, item_scale_ptr, x_item_ptr,
            user_loop_ptr, user_scale_ptr, x_user_ptr, out_user_ptr,
            user_buffer_ptr, num_user_segments, num_users, NUM_CHANNELS, ACC,
            BLOCK_S, BLOCK_C,
        )  # fmt: skip
    else:
        sum_segments(
            block, item_start_ptr, item_length_ptr, item_target_ptr,
            item_col_ptr, item_value_ptr, user_scale_ptr, x_user_ptr,
            item_loop_ptr, item_scale_ptr, x_item_ptr, out_item_ptr,
            item_buffer_ptr, num_item_segments, num_items, NUM_CHANNELS, ACC,
            BLOCK_S, BLOCK_C,
        )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def propagate_parts_kernel(
    user_start_ptr, user_length_ptr, user_target_ptr, user_loop_ptr,
    user_scale_ptr, x_user_ptr, out_user_ptr, user_buffer_ptr,
    num_user_segments, num_users,
    item_start_ptr, item_length_ptr, item_target_ptr, item_loop_ptr,
    item_scale_ptr, x_item_ptr, out_item_ptr, item_buffer_ptr,
    num_item_segments, num_items,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    r"""Sums one segment of partial sums, of users or of items."""
    is_user, segment = take_turns(
        tl.program_id(0), num_user_segments, num_item_segments
    )
    if is_user:
        if user_buffer_ptr is not None:
            sum_parts(
                segment, user_start_ptr, user_length_ptr, user_target_ptr,
                user_loop_ptr, user_scale_ptr, x_user_ptr, out_user_ptr,
                user_buffer_ptr, num_users, NUM_CHANNELS, ACC, BLOCK_P,
                BLOCK_C,
            )  # fmt: skip
    else:
        if item_buffer_ptr is not None:
            sum_parts(
                segment, item_start_ptr, item_length_ptr, item_target_ptr,
                item_loop_ptr, item_scale_ptr, x_item_ptr, out_item_ptr,
                item_buffer_ptr, num_items, NUM_CHANNELS, ACC, BLOCK_P,
                BLOCK_C,
            )  # fmt: skip


def propagate_triton(
    user: HalfStep, item: HalfStep, x_user: Tensor, x_item: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Runs a step in one launch, and in further ones for split rows."""
    extra = extra_channels(user.pattern, x_user)
    if extra > 0:
        padded = (F.pad(x, (0, extra)) for x in (x_user, x_item))
        out_user, out_item = propagate_triton(user, item, *padded)
        return (
            out_user[:, :-extra].contiguous(),
            out_item[:, :-extra].contiguous(),
        )
    num_channels = x_user.size(1)
    out_user, out_item = torch.empty_like(x_user), torch.empty_like(x_item)
    num_users, num_items = user.pattern.size[0], item.pattern.size[0]
    if num_channels == 0 or num_users + num_items == 0:
        return out_user, out_item
    users, items = row_segments(user.pattern), row_segments(item.pattern)
    user_buffer = new_buffer(user.pattern, x_user)
    item_buffer = new_buffer(item.pattern, x_item)
    if user.scale is not None and item.scale is not None:
        # Scales at both ends replace values and self-loops: the kernel then
        # gathers one scale beside each row.
        user, item = (s._replace(value=None, loop=None) for s in (user, item))
    else:
        user, item = (s._replace(scale=None) for s in (user, item))

    acc = accumulator(x_user.dtype)
    block_s, block_c = segments_shape(x_user)
    first_user, first_item = users.level(0), items.level(0)
    num_blocks = triton.cdiv(first_user.number, block_s)
    num_blocks += triton.cdiv(first_item.number, block_s)
    with torch.cuda.device_of(x_user):
        propagate_kernel[num_blocks, triton.cdiv(num_channels, block_c)](
            *first_user, user.pattern.narrow.col, user.value, user.loop,
            user.scale, x_user, out_user, user_buffer, first_user.number,
            num_users,
            *first_item, item.pattern.narrow.col, item.value, item.loop,
            item.scale, x_item, out_item, item_buffer, first_item.number,
            num_items,
            NUM_CHANNELS=num_channels, ACC=acc, BLOCK_S=block_s,
            BLOCK_C=block_c,
        )  # fmt: skip
        block_p, block_c = parts_shape(x_user)
        for n in range(1, max(len(users.levels), len(items.levels))):
            user_level, item_level = users.level(n), items.level(n)
            num_segments = user_level.number + item_level.number
            num_blocks = triton.cdiv(num_channels, block_c)
            propagate_parts_kernel[num_segments, num_blocks](
                *user_level, user.loop, user.scale, x_user, out_user,
                user_buffer, user_level.number, num_users,
                *item_level, item.loop, item.scale, x_item, out_item,
                item_buffer, item_level.number, num_items,
                NUM_CHANNELS=num_channels, ACC=acc, BLOCK_P=block_p,
                BLOCK_C=block_c,
            )  # fmt: skip
    return out_user, out_item
