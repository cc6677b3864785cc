from collections.abc import Sequence

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

METRICS = ('recall', 'precision', 'ndcg', 'hit_ratio', 'map', 'mrr')


def expected_metrics(
    score: Tensor, label: CSR, ks: Sequence[int]
) -> dict[str, Tensor]:
    r"""The metrics of PyG (*e.g.*,
    :class:`~torch_geometric.metrics.LinkPredRecall`) of each user, as
    expected if items of equal scores come in random order.

    Let a position of the ranking be the one of offset :math:`j` among
    :math:`g` items of the same score, :math:`h` of which are held out. It holds
    one of these with probability :math:`h / g`. If none of the :math:`j` before
    it does, the probability is :math:`h / (g - j)`. Given that it does, each of
    these :math:`j` does with probability :math:`(h - 1) / (g - 1)`.

    Args:
        score (torch.Tensor): The scores of all items, :math:`-\infty` for
            excluded ones.
        label (CSR): The held-out items of each user, at least one.
        ks (list[int]): The lengths of rankings.

    Shapes:
        - **score:** :math:`(B, I)`
        - **output:** :math:`(B)` for each metric and length
    """
    value, num_tied = _top_scores(score, max(ks))
    row, label_score = label.row, score[label.row, label.col].view(-1, 1)
    position = torch.arange(value.size(1), device=value.device)

    # The groups of items of the same score.
    is_new = torch.ones_like(value, dtype=torch.bool)
    is_new[:, 1:] = value[:, 1:] != value[:, :-1]
    start = torch.where(is_new, position, 0).cummax(dim=1).values
    offset = position - start
    group = is_new.cumsum(dim=1) - 1
    size = torch.zeros_like(group).scatter_add_(
        1, group, torch.ones_like(group)
    )
    size.scatter_(1, group[:, -1:], num_tied.view(-1, 1))
    size = size.gather(1, group).clamp_(min=1)  # NaN equals nothing.

    is_hit = (value[row] == label_score) & (label_score > float('-inf'))
    num_hits = torch.zeros(
        value.size(), dtype=torch.double, device=value.device
    ).index_add_(0, row, is_hit.double())
    num_labels = label.rowptr.diff().double()

    chance = num_hits / size
    hits = chance.cumsum(dim=1)
    rank = (position + 1).double()
    left = (size - offset).double()
    miss = ((left - num_hits) / left).clamp_(min=0.0).cumprod(dim=1)
    no_hit_before = torch.cat([torch.ones_like(miss[:, :1]), miss[:, :-1]], 1)
    first_hit = no_hit_before * num_hits / left
    hits_before = hits - (offset + 1) * chance
    hits_before += (
        offset * (num_hits - 1).clamp_(min=0.0) / (size - 1).clamp_(min=1)
    )
    discount = 1 / (rank + 1).log2()
    precision = (chance * (1 + hits_before) / rank).cumsum(dim=1)
    gain = (chance * discount).cumsum(dim=1)
    reciprocal = (first_hit / rank).cumsum(dim=1)

    out = {}
    for k in ks:
        best = num_labels.clamp(max=k)
        ideal = discount[:k].cumsum(dim=0)[best.long() - 1]
        values = {
            'recall': hits[:, k - 1] / num_labels,
            'precision': hits[:, k - 1] / k,
            'ndcg': gain[:, k - 1] / ideal,
            'hit_ratio': 1 - miss[:, k - 1],
            'map': precision[:, k - 1] / best,
            'mrr': reciprocal[:, k - 1],
        }
        out.update({f'{name}@{k}': values[name] for name in METRICS})
    return out


def _top_scores(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The highest scores of each row, descending, and how many of all its
    scores equal the last of these.
    """
    # One more than asked for tells whether further items score the same.
    top = score.topk(min(k + 1, score.size(1)), dim=1).values
    value = top[:, :k]
    last = value[:, -1:]
    num_tied = (value == last).sum(dim=1)
    more = (top[:, k:] == last) & (last > float('-inf'))
    row = more.any(dim=1).nonzero().view(-1)
    if row.numel() > 0:
        # Bytes add up faster than truth values.
        tied = (score[row] == last[row]).view(torch.uint8)
        num_tied[row] = tied.sum(dim=1, dtype=torch.int32).long()
    return value, num_tied
