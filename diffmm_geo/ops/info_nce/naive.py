import torch.nn.functional as F
from torch import Tensor


def info_nce_naive(
    anchor: Tensor, candidate: Tensor, index: Tensor, temperature: float
) -> Tensor:
    r"""The readable reference, with the full matrix of cosines."""
    anchor = F.normalize(anchor, dim=-1)[index]
    candidate = F.normalize(candidate, dim=-1)
    logits = anchor @ candidate.t() / temperature
    return F.cross_entropy(logits, index)
