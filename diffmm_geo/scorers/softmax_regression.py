import torch
from torch import Tensor

MAX_STEPS = 100


def softmax_regression(
    score: Tensor, label: Tensor, mask: Tensor, reg_weight: float
) -> Tensor:
    r"""The weights of a regularized softmax regression, for
    :meth:`FusedScorer.fit_weights`. The result is deterministic.

    Args:
        score (torch.Tensor): The scores of each scorer.
        label (torch.Tensor): One for held-out items and zero for others. Each
            row needs at least one.
        mask (torch.Tensor): Whether an item is a candidate.
        reg_weight (float): The weight :math:`\lambda` of
            :meth:`FusedScorer.fit_weights`.

    Shapes:
        - **score:** :math:`(N, K, S)`
        - **label:** :math:`(N, K)`
        - **mask:** :math:`(N, K)`
        - **output:** :math:`(S)`
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
