import torch
from torch import Tensor


def narrow(index: Tensor, end: int) -> Tensor:
    r"""Indices in :obj:`[0, end)`, in 32 bits where they fit: half as much to
    read.
    """
    fits = end <= torch.iinfo(torch.int32).max
    return index.to(torch.int32) if fits else index
