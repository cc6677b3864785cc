r"""Needs :obj:`triton`, and is imported where it is used."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..block_shape import block_shape
from ..csr_pattern import CSRPattern
from ..triton_kernels import accumulator, load_rows, mask_rows

# Two rows an entry are in flight, and sums stay as they are.
BLOCK_BYTES = 8192


@triton.jit(do_not_specialize=['num_entries'])
def sampled_product_kernel(
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


def sampled_product_triton(
    pattern: CSRPattern,
    a: Tensor,
    b: Tensor,
) -> Tensor:
    r"""A block of entries a program."""
    num_channels = a.size(1)
    dtype = torch.promote_types(a.dtype, torch.float)
    if pattern.nnz == 0 or num_channels == 0:
        return a.new_zeros(pattern.nnz, dtype=dtype)
    out = a.new_empty(pattern.nnz, dtype=dtype)
    block_e, block_c = block_shape(num_channels, a.element_size(), BLOCK_BYTES)
    sampled_product_kernel[(triton.cdiv(pattern.nnz, block_e),)](
        pattern.narrow_row,
        pattern.narrow_col,
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
