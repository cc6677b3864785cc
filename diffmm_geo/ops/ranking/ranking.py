from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ranking(NamedTuple):
    r"""The highest scores of each user, and those of the held-out items.
    Excluded items score :math:`-\infty`.

    Shapes:
        - **value:** the :math:`k` highest scores, descending, :math:`(B, k)`
        - **num_tied:** the number of all items with the last of these scores,
          :math:`(B)`
        - **label_row:** the row of each held-out item, :math:`(E)`
        - **label_score:** the score of each held-out item, :math:`(E)`
    """

    value: Tensor
    num_tied: Tensor
    label_row: Tensor
    label_score: Tensor


def rank_scores(
    score: Tensor, k: int, label_row: Tensor, label_col: Tensor
) -> Ranking:
    r"""Ranks the columns of a matrix of scores.

    Args:
        score (torch.Tensor): The scores, :math:`-\infty` for excluded items.
        k (int): The length of the ranking.
        label_row (torch.Tensor): The rows of held-out items.
        label_col (torch.Tensor): The columns of held-out items.

    Shapes:
        - **score:** :math:`(B, I)`
        - **label_row**, **label_col:** :math:`(E)`
    """
    return Ranking(
        *top_scores(score, k), label_row, score[label_row, label_col]
    )


def top_scores(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The :obj:`value` and :obj:`num_tied` of a :class:`Ranking`."""
    # One more than asked for tells whether further items score the same.
    top = score.topk(min(k + 1, score.size(1)), dim=1).values
    value = top[:, :k]
    last = value[:, -1:]
    num_tied = (value == last).sum(dim=1)
    if top.size(1) > k:
        more = (top[:, k:] == last) & (last > float('-inf'))
        row = more.view(-1).nonzero().view(-1)
        if row.numel() > 0:
            # Bytes add up faster than truth values.
            tied = (score[row] == last[row]).view(torch.uint8)
            num_tied[row] = tied.sum(dim=1, dtype=torch.int32).long()
    return value, num_tied


def merge_top_scores(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor]:
    r"""The :func:`top_scores` of the columns of two matrices."""
    value = torch.cat([one[0], other[0]], dim=1)
    value = value.sort(dim=1, descending=True).values[:, :k]
    last = value[:, -1:]
    num_tied = torch.zeros_like(one[1])
    for part, num_part_tied in (one, other):
        listed = (part == last).sum(dim=1)
        num_tied += torch.where(
            part[:, -1] == last[:, 0], num_part_tied, listed
        )
    return value, num_tied
