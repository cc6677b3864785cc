import torch

from diffmm_geo.ops.device import block_size

# Scores in flight at a time on a CPU: 16 MiB in float32.
BLOCK_SIZE = 2**22
# A product of fewer rows is slower, as it reads all items for them.
MIN_ROWS = 128


def block_height(
    num_items: int, num_channels: int, device: torch.device
) -> int:
    r"""The number of rows of scores to hold at a time. A block of many items
    holds at most as many scores as the items have elements.
    """
    height = block_size(BLOCK_SIZE, device) // num_items
    return max(1, height, min(num_channels, MIN_ROWS))
