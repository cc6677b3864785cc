import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.row_streams import RowStreams

# Random bits an element: probabilities are multiples of 2^-16.
NUM_LEVELS = 2**16


def dropout(
    x: Tensor,
    p: float,
    streams: RowStreams | None = None,
) -> Tensor:
    r"""Sets elements to zero with probability :obj:`p`, and divides the
    others by the probability to be left.

    :meth:`torch.nn.functional.dropout` draws a number for each element one
    after the other on CPU, which costs more than the product that follows.
    Here, 64 random bits serve four elements.

    Args:
        x (torch.Tensor): The input.
        p (float): The probability of zero, on CPU rounded to a multiple of
            :math:`2^{-16}`.
        streams (RowStreams, optional): What to draw from in place of the
            global stream. (default: :obj:`None`)
    """
    if x.is_cuda and streams is None:
        return F.dropout(x, p)
    level = round(p * NUM_LEVELS)
    if level == 0:
        return x
    if level == NUM_LEVELS:
        return x * 0
    if streams is None:
        return _dropped(x, None, level)
    # Part by part, as these fit the cache.
    return torch.cat([_dropped(*part, level) for part in streams.parts(x)])


def _dropped(
    x: Tensor,
    generator: torch.Generator | None,
    level: int,
) -> Tensor:
    words = torch.empty(-(-x.numel() // 4), dtype=torch.long, device=x.device)
    # All 64 bits: by default, the sign is left out.
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: x.numel()].view(x.size())
    keep = bits >= level - NUM_LEVELS // 2
    return (x * keep).mul_(NUM_LEVELS / (NUM_LEVELS - level))
