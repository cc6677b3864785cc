from contextlib import AbstractContextManager, nullcontext

import torch


def current_device(device: torch.device) -> AbstractContextManager[object]:
    r"""Within, a CUDA device is the current one, whose streams are used."""
    if device.type == 'cuda':
        return torch.cuda.device(device)
    return nullcontext()
