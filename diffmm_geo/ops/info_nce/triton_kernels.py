r"""Import on use, since :obj:`triton` is optional."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

# Scales probabilities in float16 by 2^14, since those of 1e-6 are subnormal.
GAIN = 14
OPERANDS = {
    torch.half: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float: tl.float32,
    torch.double: tl.float64,
}


@triton.jit
def _load_rows(
    ptr, start, num_rows,
    NUM_CHANNELS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    row = start + tl.arange(0, BLOCK)
    channel = tl.arange(0, BLOCK_F)
    return tl.load(
        ptr + row.to(tl.int64)[:, None] * NUM_CHANNELS + channel[None, :],
        mask=(row < num_rows)[:, None] & (channel < NUM_CHANNELS)[None, :],
        other=0.0,
    )


# Exponentials and logarithms are in base 2. The factor log2(e) scales logits in
# a fused multiply-add, since scaling the query would round it once more.
@triton.jit
def _sum_exp(
    query_ptr, candidates_ptr, partial_ptr, num_anchors, num_candidates, span,
    NUM_CHANNELS: tl.constexpr, OPERAND: tl.constexpr, ACC: tl.constexpr,
    ONLINE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    split, view = tl.program_id(1), tl.program_id(2)
    candidates_ptr += view.to(tl.int64) * num_candidates * NUM_CHANNELS
    anchor = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    q = _load_rows(
        query_ptr, tl.program_id(0) * BLOCK_B, num_anchors, NUM_CHANNELS,
        BLOCK_B, BLOCK_F,
    ).to(OPERAND)  # fmt: skip

    peak = tl.full([BLOCK_B], float('-inf'), ACC)
    norm = tl.zeros([BLOCK_B], ACC)
    begin = split * span
    for start in range(begin, min(begin + span, num_candidates), BLOCK_N):
        c = _load_rows(
            candidates_ptr, start, num_candidates, NUM_CHANNELS, BLOCK_N,
            BLOCK_F,
        ).to(OPERAND)  # fmt: skip
        is_candidate = start + tl.arange(0, BLOCK_N) < num_candidates
        outside = tl.where(is_candidate, 0.0, float('-inf')).to(ACC)
        logit = tl.dot(q, c.T, input_precision=PRECISION, out_dtype=ACC)
        logit = logit * LOG2E + outside[None, :]
        if ONLINE:
            new_peak = tl.maximum(peak, tl.max(logit, 1))
            norm *= tl.exp2(peak - new_peak)
            peak = new_peak
            logit -= peak[:, None]
        norm += tl.sum(tl.exp2(logit), 1)

    out = tl.log2(norm)
    if ONLINE:
        out += peak
    place = (split * tl.num_programs(2) + view).to(tl.int64) * num_anchors
    tl.store(partial_ptr + place + anchor, out, mask=anchor < num_anchors)


@triton.jit
def _finish(
    query_ptr, candidates_ptr, index_ptr, weight_ptr, partial_ptr, lse_ptr,
    loss_ptr, num_anchors, num_candidates, num_splits,
    NUM_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    view, num_views = tl.program_id(1), tl.num_programs(1)
    candidates_ptr += view.to(tl.int64) * num_candidates * NUM_CHANNELS
    start = tl.program_id(0) * BLOCK_B
    anchor = start + tl.arange(0, BLOCK_B)
    is_anchor = anchor < num_anchors

    peak = tl.full([BLOCK_B], float('-inf'), ACC)
    norm = tl.zeros([BLOCK_B], ACC)
    for start_split in range(0, num_splits, BLOCK_S):
        split = start_split + tl.arange(0, BLOCK_S)
        is_split = (split < num_splits)[:, None]
        place = (split * num_views + view)[:, None] * num_anchors
        part = tl.load(
            partial_ptr + place + anchor[None, :],
            mask=is_split & is_anchor[None, :],
            other=0.0,
        )
        part = tl.where(is_split, part, float('-inf'))
        new_peak = tl.maximum(peak, tl.max(part, 0))
        norm *= tl.exp2(peak - new_peak)
        norm += tl.sum(tl.exp2(part - new_peak[None, :]), 0)
        peak = new_peak
    lse = peak + tl.log2(norm)

    q = _load_rows(
        query_ptr, start, num_anchors, NUM_CHANNELS, BLOCK_B, BLOCK_F
    )
    channel = tl.arange(0, BLOCK_F)
    index = tl.load(index_ptr + anchor, mask=is_anchor, other=0)
    positive = tl.load(
        candidates_ptr
        + index.to(tl.int64)[:, None] * NUM_CHANNELS
        + channel[None, :],
        mask=is_anchor[:, None] & (channel < NUM_CHANNELS)[None, :],
        other=0.0,
    )
    logit = tl.sum(q.to(ACC) * positive.to(ACC), 1)
    weight = tl.load(weight_ptr + anchor, mask=is_anchor, other=0.0)
    place = view * num_anchors + anchor
    tl.store(lse_ptr + place, lse, mask=is_anchor)
    loss = weight * (lse * LN2 - logit)
    tl.store(loss_ptr + place, loss, mask=is_anchor)


# The gradient of the logits is weight * (softmax - onehot(index)). Each side
# multiplies it by the rows of the other side. Subtracting the one-hot part here
# instead of in a scatter needs no atomics if `index` has duplicates, and lets
# p - 1 cancel before it is rounded to half precision.
@triton.jit
def _grad(
    own_ptr, other_ptr, index_ptr, weight_ptr, lse_ptr, scale_ptr, out_ptr,
    num_own, num_other, span,
    OF_QUERY: tl.constexpr, GAIN: tl.constexpr, NUM_CHANNELS: tl.constexpr,
    OPERAND: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_OWN: tl.constexpr, BLOCK_OTHER: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    split, view = tl.program_id(1), tl.program_id(2)
    own_start = tl.program_id(0) * BLOCK_OWN
    own = own_start + tl.arange(0, BLOCK_OWN)
    is_own = own < num_own
    if OF_QUERY:
        other_ptr += view.to(tl.int64) * num_other * NUM_CHANNELS
        lse_ptr += view * num_own
        lse = tl.load(lse_ptr + own, mask=is_own, other=0.0)
        index = tl.load(index_ptr + own, mask=is_own, other=-1).to(tl.int32)
        factor = tl.load(weight_ptr + own, mask=is_own, other=0.0)
    else:
        own_ptr += view.to(tl.int64) * num_own * NUM_CHANNELS
        lse_ptr += view * num_other
        factor = tl.full([BLOCK_OWN], 1.0, ACC)
    x = _load_rows(
        own_ptr, own_start, num_own, NUM_CHANNELS, BLOCK_OWN, BLOCK_F
    ).to(OPERAND)

    total = tl.zeros([BLOCK_OWN, BLOCK_F], ACC)
    begin = split * span
    for start in range(begin, min(begin + span, num_other), BLOCK_OTHER):
        y = _load_rows(
            other_ptr, start, num_other, NUM_CHANNELS, BLOCK_OTHER, BLOCK_F
        ).to(OPERAND)
        other = start + tl.arange(0, BLOCK_OTHER)
        is_other = other < num_other
        logit = tl.dot(x, y.T, input_precision=PRECISION, out_dtype=ACC)
        # Columns past the end get probability zero. Rows past the end are not
        # stored.
        if OF_QUERY:
            outside = tl.where(is_other, 0.0, float('-inf')).to(ACC)
            shift = outside[None, :] + (GAIN - lse)[:, None]
            is_positive = index[:, None] == other[None, :]
            grad = tl.exp2(logit * LOG2E + shift)
            grad = tl.where(is_positive, grad - 2.0**GAIN, grad)
        else:
            lse = tl.load(lse_ptr + other, mask=is_other, other=float('inf'))
            index = tl.load(index_ptr + other, mask=is_other, other=-1)
            weight = tl.load(weight_ptr + other, mask=is_other, other=0.0)
            is_positive = own[:, None] == index.to(tl.int32)[None, :]
            grad = tl.exp2(logit * LOG2E + (GAIN - lse)[None, :])
            grad = tl.where(is_positive, grad - 2.0**GAIN, grad)
            grad *= weight[None, :]
        total = tl.dot(
            grad.to(other_ptr.dtype.element_ty).to(OPERAND),
            y,
            total,
            input_precision=PRECISION,
            out_dtype=ACC,
        )

    factor *= tl.load(scale_ptr) * 2.0**-GAIN
    place = (split * tl.num_programs(2) + view).to(tl.int64) * num_own
    channel = tl.arange(0, BLOCK_F)
    tl.store(
        out_ptr + (place + own)[:, None] * NUM_CHANNELS + channel[None, :],
        total * factor[:, None],
        mask=is_own[:, None] & (channel < NUM_CHANNELS)[None, :],
    )


class Blocks(NamedTuple):
    r"""The rows of either side per block, and the launch configuration."""

    own: int
    other: int
    num_warps: int
    num_stages: int


# Keyed by the maximum number of channels. Not timed yet. Each compiles for
# sm_90 within the 99 KiB of shared memory that smaller GPUs have, and without
# spills except for a few bytes above 256 channels or for unaligned rows:
# - half: a warpgroup of four warps multiplies 64 rows. Blocks of 64 x 64 allow
#   three or more programs per SM, which overlap products and exponentials. A
#   gradient of 512 channels fits into registers in blocks of 32 rows only.
# - tf32x3: both operands are split in registers, which hold 64 channels.
# - tf32: a gradient of more than 128 channels fits in blocks of few rows only.
# - ieee: products without tensor cores, unrolled over all channels.
# - double: for tests only, hence small. Sums have eight warps, as Triton 3.6
#   spills with four.
BLOCKS = {
    'half': {
        128: Blocks(64, 64, 4, 3),
        256: Blocks(64, 32, 4, 2),
        512: Blocks(32, 32, 8, 2),
    },
    'tf32x3': {64: Blocks(64, 32, 4, 3)},
    'tf32': {
        64: Blocks(64, 64, 4, 3),
        128: Blocks(64, 32, 4, 2),
        256: Blocks(32, 32, 8, 2),
        512: Blocks(16, 16, 8, 2),
    },
    'ieee_sum': {
        64: Blocks(64, 32, 4, 2),
        128: Blocks(32, 32, 4, 2),
        512: Blocks(32, 16, 8, 2),
    },
    'ieee_grad': {
        128: Blocks(32, 32, 4, 2),
        256: Blocks(32, 16, 8, 2),
        512: Blocks(16, 16, 4, 2),
    },
    'double_sum': {512: Blocks(16, 16, 8, 2)},
    'double_grad': {256: Blocks(16, 16, 4, 2), 512: Blocks(16, 16, 8, 2)},
}
FINISH_BLOCK = 16


def _config(
    query: Tensor, precision: str, of_grad: bool
) -> tuple[Blocks, dict[str, Any]]:
    num_channels = query.size(1)
    kind = {torch.double: 'double', torch.float: precision}.get(
        query.dtype, 'half'
    )
    if kind not in ('tf32x3', 'tf32'):
        precision = 'ieee'
    if kind in ('ieee', 'double'):
        kind += '_grad' if of_grad else '_sum'
    sizes = [size for size in BLOCKS[kind] if size >= num_channels]
    if not sizes:
        raise ValueError(
            f"'query' needs to have at most {max(BLOCKS[kind])} channels in "
            f'{query.dtype} with precision={precision!r} (got {num_channels})'
        )
    blocks = BLOCKS[kind][min(sizes)]
    operand = OPERANDS[query.dtype]
    if operand == tl.bfloat16 and os.environ.get('TRITON_INTERPRET') == '1':
        operand = tl.float32  # The interpreter multiplies raw bits.
    return blocks, dict(
        NUM_CHANNELS=num_channels, OPERAND=operand,
        ACC=tl.float64 if query.dtype == torch.double else tl.float32,
        PRECISION=precision,
        BLOCK_F=max(16, triton.next_power_of_2(num_channels)),
        num_warps=blocks.num_warps, num_stages=blocks.num_stages,
        enable_fp_fusion=True,
    )  # fmt: skip


def _split(
    num_rows: int, block: int, num_programs: int, device: torch.device
) -> tuple[int, int]:
    r"""Returns the number and length of ranges of rows that fill the device."""
    blocks = triton.cdiv(num_rows, block)
    splits = min(triton.cdiv(_num_programs(device), num_programs), blocks)
    span = triton.cdiv(blocks, splits)
    return triton.cdiv(blocks, span), span * block


def _num_programs(device: torch.device) -> int:
    if device.type != 'cuda':
        return 8
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count


def info_nce_forward(
    query: Tensor, candidates: Tensor, index: Tensor, weight: Tensor,
    online: bool, precision: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    r"""Returns the loss, and the base-2 log-sum-exp of each row, :obj:`[V, B]`.

    Each program writes the log-sum-exp of a range of candidates. A second
    kernel combines them in a fixed order.
    """
    num_anchors, num_views = query.size(0), candidates.size(0)
    num_candidates = candidates.size(1)
    blocks, config = _config(query, precision, of_grad=False)
    num_blocks = triton.cdiv(num_anchors, blocks.own)
    splits, span = _split(
        num_candidates, blocks.other, num_blocks * num_views, query.device
    )
    partial = weight.new_empty(splits, num_views, num_anchors)
    _sum_exp[num_blocks, splits, num_views](
        query, candidates, partial, num_anchors, num_candidates, span,
        ONLINE=online, BLOCK_B=blocks.own, BLOCK_N=blocks.other, **config,
    )  # fmt: skip
    lse = weight.new_empty(num_views, num_anchors)
    loss = torch.empty_like(lse)
    _finish[triton.cdiv(num_anchors, FINISH_BLOCK), num_views](
        query, candidates, index, weight, partial, lse, loss, num_anchors,
        num_candidates, splits,
        NUM_CHANNELS=config['NUM_CHANNELS'], ACC=config['ACC'], BLOCK_S=32,
        BLOCK_B=FINISH_BLOCK, BLOCK_F=config['BLOCK_F'], enable_fp_fusion=True,
    )  # fmt: skip
    return loss.sum(), lse


def info_nce_backward(
    of_query: bool, query: Tensor, candidates: Tensor, index: Tensor,
    weight: Tensor, lse: Tensor, scale: Tensor, precision: str,
) -> Tensor:  # fmt: skip
    r"""Returns the gradient of one side, times :obj:`scale`.

    If its blocks are too few to fill the device, the other side is split as
    well, and partial sums are added in a fixed order.
    """
    own, other = (query, candidates) if of_query else (candidates, query)
    num_own, num_other = own.size(-2), other.size(-2)
    num_views = candidates.size(0)
    blocks, config = _config(query, precision, of_grad=True)
    num_blocks = triton.cdiv(num_own, blocks.own)
    splits, span = _split(
        num_other, blocks.other, num_blocks * num_views, query.device
    )
    is_sum = splits > 1 or (of_query and num_views > 1)
    out = (weight if is_sum else query).new_empty(
        splits, num_views, num_own, query.size(1)
    )
    _grad[num_blocks, splits, num_views](
        own, other, index, weight, lse, scale, out, num_own, num_other, span,
        OF_QUERY=of_query, GAIN=GAIN if query.dtype == torch.half else 0,
        BLOCK_OWN=blocks.own, BLOCK_OTHER=blocks.other, **config,
    )  # fmt: skip
    if is_sum:
        out = out.sum((0, 1) if of_query else 0)
    return out.view_as(own).to(query.dtype)
