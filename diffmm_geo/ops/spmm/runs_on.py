from typing import Any

import torch


def runs_on(extension: Any, device: torch.device) -> bool:
    r"""Whether a PyTorch extension (its :obj:`torch.ops` namespace) was built
    for a device.
    """
    # A build without CUDA says -1.
    return device.type != 'cuda' or extension.cuda_version() != -1
