r"""The shape of blocks of threads, from the hardware."""

from torch import Tensor

from diffmm_geo.sparse import CSR

VECTOR_BYTES = 16
BLOCK_BYTES = 4096
MAX_ROWS = 128
# Unaligned rows are gathered at half the speed, and padding moves each row of
# the inputs and outputs twice. Its launches cost as much as 2^17 more rows.
# Estimated from the number of registers, and not timed yet.
ROW_COST = 8
LAUNCH_ROWS = 2**17


def block_shape(
    num_channels: int, element_size: int, block_bytes: int = BLOCK_BYTES
) -> tuple[int, int]:
    r"""Returns the number of rows and channels per block of threads. It
    follows from the hardware, and needs no autotuning.

    - Each lane reads 16 bytes, and 8, 16 or 32 lanes read a row: whole cache
      lines, and several rows per instruction. We choose the width that leaves
      the fewest lanes idle (for 192 channels in single precision, three blocks
      of 64 instead of two of 128). Among equals, we choose the widest, since
      each block of channels reads the indices again.
    - The number of rows gives each of 128 lanes eight sums (in single
      precision, with 64 to 128 bytes in flight per lane). A lane then needs 40
      to 80 registers on Hopper, so six to twelve blocks fit on a
      multiprocessor. They keep 70 to 100 KB in flight, several times what the
      latency of the L2 cache requires.
    """
    vector = VECTOR_BYTES // element_size
    widths = [lanes * vector for lanes in (32, 16, 8)]
    if num_channels <= widths[-1]:
        width = 1 << (num_channels - 1).bit_length()
    else:
        width = min(widths, key=lambda w: -(-num_channels // w) * w)
    rows = block_bytes // (width * max(4, element_size))
    return min(rows, MAX_ROWS), width


def extra_channels(pattern: CSR, x: Tensor) -> int:
    r"""The number of channels to add to each row, so that lanes read 16 bytes
    at a time. Zero if rows are aligned already, or if a graph has too few
    entries per row for the copies to pay.
    """
    vector = VECTOR_BYTES // x.element_size()
    if pattern.nnz < ROW_COST * (sum(pattern.size) + LAUNCH_ROWS):
        return 0
    return -x.size(1) % vector
