import torch

# Untimed: enough rows to keep all multiprocessors of a large GPU busy.
GPU_FACTOR = 32


def block_size(size: int, device: torch.device) -> int:
    r"""The number of elements to compute at a time: :obj:`size` on a CPU,
    whose cache has to hold them, and 32 times as many on a GPU, which they
    have to fill.
    """
    return size if device.type == 'cpu' else GPU_FACTOR * size
