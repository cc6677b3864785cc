r"""Needs :obj:`triton`, and is imported where it is used."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

# Probabilities of 1e-6 are below the normal numbers of float16, so they are
# taken times 2^14 there.
GAIN = 14
FINISH_BLOCK = 16


@triton.jit
def _load_rows(
    ptr,
    start,
    num_rows,
    NUM_CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    row = start + tl.arange(0, BLOCK)
    channel = tl.arange(0, BLOCK_F)
    return tl.load(
        ptr + row.to(tl.int64)[:, None] * NUM_CHANNELS + channel[None, :],
        mask=(row < num_rows)[:, None] & (channel < NUM_CHANNELS)[None, :],
        other=0.0,
    )


# Everything is in base 2. The factor log2(e) meets the logits rather than the
# query: it is part of a fused multiply-add there, and does not round a query
# of half precision once more.
@triton.jit
def _sum_exp(
    query_ptr,
    candidates_ptr,
    partial_ptr,
    num_anchors,
    num_candidates,
    span,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    ONLINE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    split, view = tl.program_id(1), tl.program_id(2)
    candidates_ptr += view.to(tl.int64) * num_candidates * NUM_CHANNELS
    anchor = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    q = _load_rows(
        query_ptr,
        tl.program_id(0) * BLOCK_B,
        num_anchors,
        NUM_CHANNELS,
        BLOCK_B,
        BLOCK_F,
    )

    peak = tl.full([BLOCK_B], float('-inf'), ACC)
    norm = tl.zeros([BLOCK_B], ACC)
    begin = split * span
    for start in range(begin, min(begin + span, num_candidates), BLOCK_N):
        c = _load_rows(
            candidates_ptr,
            start,
            num_candidates,
            NUM_CHANNELS,
            BLOCK_N,
            BLOCK_F,
        )
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
    query_ptr,
    candidates_ptr,
    index_ptr,
    weight_ptr,
    partial_ptr,
    lse_ptr,
    loss_ptr,
    num_anchors,
    num_candidates,
    num_splits,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    view, num_views = tl.program_id(1), tl.num_programs(1)
    candidates_ptr += view.to(tl.int64) * num_candidates * NUM_CHANNELS
    start = tl.program_id(0) * BLOCK_B
    anchor = start + tl.arange(0, BLOCK_B)
    is_anchor = anchor < num_anchors

    peak = tl.full([BLOCK_B], float('-inf'), ACC)
    norm = tl.zeros([BLOCK_B], ACC)
    for split in range(num_splits):
        place = (split * num_views + view) * num_anchors + anchor
        part = tl.load(partial_ptr + place, mask=is_anchor, other=0.0)
        new_peak = tl.maximum(peak, part)
        norm = norm * tl.exp2(peak - new_peak) + tl.exp2(part - new_peak)
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


# The gradient of the logits is weight * (softmax - onehot(index)). Both sides
# take it times the rows of the other side: anchors over blocks of candidates,
# or candidates over blocks of anchors. The one-hot part in place of a scatter
# needs no atomics where `index` has duplicates, and lets p - 1 cancel before
# it is rounded to half precision.
@triton.jit
def _grad(
    own_ptr,
    other_ptr,
    index_ptr,
    weight_ptr,
    lse_ptr,
    scale_ptr,
    out_ptr,
    num_own,
    num_other,
    span,
    OF_QUERY: tl.constexpr,
    GAIN: tl.constexpr,
    NUM_CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_OWN: tl.constexpr,
    BLOCK_OTHER: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
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
    )

    total = tl.zeros([BLOCK_OWN, BLOCK_F], ACC)
    begin = split * span
    for start in range(begin, min(begin + span, num_other), BLOCK_OTHER):
        y = _load_rows(
            other_ptr, start, num_other, NUM_CHANNELS, BLOCK_OTHER, BLOCK_F
        )
        other = start + tl.arange(0, BLOCK_OTHER)
        is_other = other < num_other
        logit = tl.dot(x, y.T, input_precision=PRECISION, out_dtype=ACC)
        # Columns past the end get probability zero.
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
            grad.to(y.dtype),
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


class Config(NamedTuple):
    r"""Sizes of blocks, fixed by the channels and the type of the data."""

    block_own: int
    block_other: int
    block_f: int
    acc: tl.dtype
    options: dict[str, Any]

    @classmethod
    def of(cls, query: Tensor, precision: str) -> Config:
        r"""The sizes for a query."""
        block_f = max(16, triton.next_power_of_2(query.size(1)))
        acc = tl.float64 if query.dtype == torch.double else tl.float32
        options = dict(num_warps=4, num_stages=3, enable_fp_fusion=True)
        return cls(64, 64, block_f, acc, options)


def _split(
    num_other: int, block: int, num_programs: int, like: Tensor
) -> tuple[int, int]:
    r"""Into how many ranges, and of which length, to split a side so that
    there is about a program for each that the device runs at a time.
    """
    blocks = triton.cdiv(num_other, block)
    wanted = triton.cdiv(_num_programs(like.device), num_programs)
    span = triton.cdiv(blocks, min(wanted, blocks))
    return triton.cdiv(blocks, span), span * block


def _num_programs(device: torch.device) -> int:
    if device.type != 'cuda':
        return 8
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count


def log_sum_exp(
    query: Tensor,
    candidates: Tensor,
    index: Tensor,
    weight: Tensor,
    online: bool,
    precision: str,
) -> tuple[Tensor, Tensor]:
    r"""The loss, and the log-sum-exp of each row, :obj:`[V, B]`, in base 2.

    Partial sums over ranges of candidates are written by a program each, and
    put together in order by a second kernel.
    """
    num_anchors, num_channels = query.size()
    num_views, num_candidates, _ = candidates.size()
    config = Config.of(query, precision)
    block_b, block_n = config.block_own, config.block_other
    blocks = triton.cdiv(num_anchors, block_b)
    splits, span = _split(num_candidates, block_n, blocks * num_views, query)
    partial = weight.new_empty(splits, num_views, num_anchors)
    _sum_exp[blocks, splits, num_views](
        query,
        candidates,
        partial,
        num_anchors,
        num_candidates,
        span,
        NUM_CHANNELS=num_channels,
        ACC=config.acc,
        ONLINE=online,
        PRECISION=precision,
        BLOCK_B=block_b,
        BLOCK_N=block_n,
        BLOCK_F=config.block_f,
        **config.options,
    )
    lse, loss = weight.new_empty(2, num_views, num_anchors)
    _finish[triton.cdiv(num_anchors, FINISH_BLOCK), num_views](
        query,
        candidates,
        index,
        weight,
        partial,
        lse,
        loss,
        num_anchors,
        num_candidates,
        splits,
        NUM_CHANNELS=num_channels,
        ACC=config.acc,
        BLOCK_B=FINISH_BLOCK,
        BLOCK_F=config.block_f,
    )
    return loss.sum(), lse


def grad(
    of_query: bool,
    query: Tensor,
    candidates: Tensor,
    index: Tensor,
    weight: Tensor,
    lse: Tensor,
    scale: Tensor,
    precision: str,
) -> Tensor:
    r"""The gradient, times :obj:`scale`, of one of the two sides.

    Where the blocks of that side are too few programs, the other side is
    split, too, and partial sums are added up in order.
    """
    num_views, num_candidates, num_channels = candidates.size()
    num_anchors, config = query.size(0), Config.of(query, precision)
    own, other = num_candidates, num_anchors
    if of_query:
        own, other = other, own
    blocks = triton.cdiv(own, config.block_own)
    splits, span = _split(other, config.block_other, blocks * num_views, query)
    sums = (0, 1) if of_query else (0,)
    shape = (splits, num_views, own, num_channels)
    is_partial = math.prod(shape[i] for i in sums) > 1
    out = (weight if is_partial else query).new_empty(shape)
    _grad[blocks, splits, num_views](
        query if of_query else candidates,
        candidates if of_query else query,
        index,
        weight,
        lse,
        scale,
        out,
        own,
        other,
        span,
        OF_QUERY=of_query,
        GAIN=GAIN if query.dtype == torch.half else 0,
        NUM_CHANNELS=num_channels,
        ACC=config.acc,
        PRECISION=precision,
        BLOCK_OWN=config.block_own,
        BLOCK_OTHER=config.block_other,
        BLOCK_F=config.block_f,
        **config.options,
    )
    if is_partial:
        return out.sum(sums).to(query.dtype)
    return out.view(shape[len(sums) :])
