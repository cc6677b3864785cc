r"""Several scorers as one: a weighted sum, and two stages."""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .floors import Scorer


def standardize(score: Tensor) -> Tensor:
    r"""Rows :math:`(B, I)` of mean zero and standard deviation one. Rows of one
    value become zero.
    """
    # In rows of one value, differences are exactly zero. In other rows, the
    # largest becomes one, so that squares neither overflow nor vanish.
    out = score - score[:, :1]
    high = out.abs().amax(dim=1, keepdim=True)
    out /= high.masked_fill_(high == 0, 1.0)
    out -= out.mean(dim=1, keepdim=True)
    std = out.square().mean(dim=1, keepdim=True).sqrt_()
    return out.div_(std.masked_fill_(std == 0, 1.0))


def weighted_sum(
    scorers: Mapping[str, Scorer], weights: Mapping[str, float]
) -> Scorer:
    r"""The weighted sum of scores, each standardized over the items of a user

    .. math::
        s_{ui} = \sum_n w_n \frac{s^{(n)}_{ui} - \mu^{(n)}_u}
        {\sigma^{(n)}_u}.
    """

    def score(users: Tensor) -> Tensor:
        parts = (
            weights[name] * standardize(scorer(users))
            for name, scorer in scorers.items()
        )
        return sum(parts, torch.zeros((), device=users.device))

    return score


def two_stages(
    retriever: Scorer, ranker: Scorer, observed: CSR, num_candidates: int = 200
) -> Scorer:
    r"""The first scorer retrieves candidates, which the second ranks. All other
    items follow in the order of the first. Observed items are no candidates.
    """

    def score(users: Tensor) -> Tensor:
        out = standardize(retriever(users))
        item, mask = best_items(out, observed.take(users), num_candidates)
        # Users with fewer candidates repeat their first one.
        item = item.where(mask, item[:, :1])
        score = ranker(users).gather(1, item)
        highest = out.amax(dim=1, keepdim=True)
        score = score - score.amin(dim=1, keepdim=True) + highest + 1.0
        return out.scatter_(1, item, score)

    return score


def best_items(score: Tensor, observed: CSR, k: int) -> tuple[Tensor, Tensor]:
    r"""The :math:`k` best items of each row without observed ones, and whether
    they are such: a row may have fewer.
    """
    score = score.clone()
    score[observed.row, observed.col] = float('-inf')
    value, item = score.topk(min(k, score.size(1)), dim=1)
    return item, value > float('-inf')
