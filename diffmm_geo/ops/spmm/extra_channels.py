from torch import Tensor

from diffmm_geo.sparse import CSR

from .block_shape import VECTOR_BYTES

# Unaligned rows are gathered at half the speed, and padding moves each row of
# the inputs and outputs twice. Its launches cost as much as 2^17 more rows.
# Estimated from the number of registers, and not timed yet.
ROW_COST = 8
LAUNCH_ROWS = 2**17


def extra_channels(pattern: CSR, x: Tensor) -> int:
    r"""The number of channels to add to each row, so that lanes read 16 bytes
    at a time. Zero if rows are aligned already, or if a graph has too few
    entries per row for the copies to pay.
    """
    vector = VECTOR_BYTES // x.element_size()
    if pattern.nnz < ROW_COST * (sum(pattern.size) + LAUNCH_ROWS):
        return 0
    return -x.size(1) % vector
