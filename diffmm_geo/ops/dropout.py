import torch
import torch.nn.functional as F
from torch import Tensor

# Random bits per element: probabilities are multiples of 2^-16.
NUM_LEVELS = 2**16


def dropout(x: Tensor, p: float) -> Tensor:
    r"""Equals :meth:`torch.nn.functional.dropout` in distribution, and is
    faster on CPU. There, PyTorch draws one number per element, which costs
    more than the product that follows. Here, 64 random bits serve four
    elements, so the probability is rounded to a multiple of :math:`2^{-16}`.
    """
    if x.is_cuda:
        return F.dropout(x, p)
    level = round(p * NUM_LEVELS)
    if level == 0:
        return x
    if level == NUM_LEVELS:
        return x * 0
    words = torch.empty(-(-x.numel() // 4), dtype=torch.long, device=x.device)
    # By default, `random_` leaves out the sign bit.
    words.random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.size())
    keep = bits >= level - NUM_LEVELS // 2
    return (x * keep).mul_(NUM_LEVELS / (NUM_LEVELS - level))
