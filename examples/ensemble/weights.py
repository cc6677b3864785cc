r"""Learns the weights of scorers from validation interactions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .floors import Scorer
from .fusion import best_items, standardize

# Users per block of scores.
HEIGHT = 512
MAX_STEPS = 100


@torch.no_grad()
def fit_weights(
    scorers: Mapping[str, Scorer],
    held_out: CSR,
    observed: CSR,
    retriever: Scorer,
    num_candidates: int = 200,
    reg_weight: float = 3.0,
    max_users: int = 10_000,
) -> dict[str, float]:
    r"""Learns weights by a softmax regression over the candidates
    :math:`\mathcal{C}_u` that the retriever finds for each user

    .. math::
        \min_{\mathbf{w}} \sum_u
        \frac{-1}{|\mathcal{H}_u \cap \mathcal{C}_u|}
        \sum_{i \in \mathcal{H}_u \cap \mathcal{C}_u} \log
        \frac{\exp(s_{ui})}{\sum_{j \in \mathcal{C}_u} \exp(s_{uj})}
        + \lambda \sum_n {(w_n \sigma_n)}^2,

    where :math:`\mathcal{H}_u` are the held-out items, and :math:`\sigma_n` is
    the standard deviation of scorer :math:`n`'s standardized scores over all
    candidates. The problem is convex. Weights may be negative. Users without a
    held-out candidate do not count. If there are more than :obj:`max_users`,
    uses a fixed random sample of them.
    """
    users = _sample(held_out.rowptr.diff().nonzero().view(-1), max_users)
    scores, labels, masks = [], [], []
    for block in users.split(HEIGHT):
        score = retriever(block)
        item, mask = best_items(score, observed.take(block), num_candidates)
        label = held_out.take(block).dense(score).gather(1, item) * mask
        keep = label.any(dim=1)
        parts = [
            standardize(scorer(block)).gather(1, item)[keep]
            for scorer in scorers.values()
        ]
        scores.append(torch.stack(parts, dim=-1))
        labels.append(label[keep])
        masks.append(mask[keep])
    if not any(label.size(0) for label in labels):
        raise ValueError(
            f"'held_out' needs an interaction with one of the "
            f'{num_candidates} candidates of its user (got none)'
        )
    args = torch.cat(scores), torch.cat(labels), torch.cat(masks)
    return dict(zip(scorers, softmax_regression(*args, reg_weight).tolist()))


def _sample(users: Tensor, count: int) -> Tensor:
    if users.numel() <= count:
        return users
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(users.numel(), generator=generator)[:count]
    return users[order.sort().values.to(users.device)]


def softmax_regression(
    score: Tensor, label: Tensor, mask: Tensor, reg_weight: float
) -> Tensor:
    r"""The weights :math:`(S)` from scores :math:`(N, K, S)`, labels
    :math:`(N, K)` (each row needs one) and whether an item is a candidate
    :math:`(N, K)`. The result is deterministic.
    """
    score = score.double()
    std = score[mask].std(dim=0, correction=0)
    # A scorer that does not tell candidates apart gets no weight.
    score = torch.where(std > 0, score / std, 0.0)
    target = label / label.sum(dim=1, keepdim=True)
    weight = score.new_zeros(score.size(-1), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=MAX_STEPS, line_search_fn='strong_wolfe'
    )

    def closure() -> Tensor:
        with torch.enable_grad():
            optimizer.zero_grad()
            logit = (score @ weight).masked_fill(~mask, float('-inf'))
            log_p = logit.log_softmax(dim=1).masked_fill(~mask, 0.0)
            loss = -(target * log_p).sum()
            loss = loss + reg_weight * weight.square().sum()
            # The tolerances of L-BFGS fit a mean.
            loss = loss / label.size(0)
            loss.backward()
        return loss

    optimizer.step(closure)
    return torch.where(std > 0, weight.detach() / std, 0.0)
