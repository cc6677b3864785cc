import torch
from torch import Tensor

from diffmm_geo.sparse import CSR


@torch.no_grad()
def topk_scores(score: Tensor, k: int, exclude: CSR | None = None) -> Tensor:
    r"""The :math:`k` items with the highest of given scores.

    Shapes:
        - **score:** :math:`(B, I)`
        - **output:** :math:`(B, k)`, sorted by descending score, and padded
          with :obj:`-1` if exclusions leave fewer than :math:`k` items.
    """
    if exclude is None:
        return score.topk(k, dim=1).indices
    score = score.clone()
    score[exclude.row, exclude.col] = float('-inf')
    value, index = score.topk(k, dim=1)
    return index.masked_fill_(value == float('-inf'), -1)
