import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.ranking.topk_items import topk_items
from diffmm_geo.sparse import CSR


def topk_among(
    kept: Tensor | None,
    query: Tensor,
    item: Tensor,
    k: int,
    exclude: CSR | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The :func:`~diffmm_geo.ops.topk_items` and their scores among the items
    where :obj:`kept` is true, padded to :math:`k`.
    """
    if kept is None:
        return topk_items(query, item, k, exclude=exclude, return_scores=True)
    candidates = kept.nonzero().view(-1)
    length = min(k, candidates.numel())
    if length == 0:
        index = query.new_empty(query.size(0), 0, dtype=torch.long)
        score = query.new_empty(query.size(0), 0)
    else:
        part = None if exclude is None else exclude.take_columns(candidates)
        index, score = topk_items(
            query, item[candidates], length, exclude=part, return_scores=True
        )
        index = torch.where(index < 0, index, candidates[index])
    pad = 0, k - length
    return F.pad(index, pad, value=-1), F.pad(score, pad, value=float('-inf'))
