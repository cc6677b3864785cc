r"""The last layer's rows of items that no user has interacted with."""

import math

import torch

from diffmm_geo.nn.diffusion.edge_sampling import hidden_sampler
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.sparse import CSR

# Users over whom the probability of an item is averaged.
NUM_USERS = 4096
# In place of the estimate itself. Chosen by validation on TikTok and
# MovieLens-100K.
SHARE = 2.0
# Of the mean variance of features.
RIDGE = 1e-2


@torch.no_grad()
def place_unobserved(model: MaskedInteractionDiffusion, lists: CSR) -> None:
    r"""Places the items without observed interactions among the others.
    Training leaves them out, as it would teach that they are never chosen.

    With the rows :math:`\mathbf{w}_i` of observed items, their mean
    :math:`\mathbf{\bar{w}}`, and the ridge regression :math:`\mathbf{R}` of
    :math:`\mathbf{w}_i - \mathbf{\bar{w}}` on the features, the row and the
    bias of another item :math:`j` are

    .. math::
        \mathbf{w}_j = \mathbf{\bar{w}} + c \, \mathbf{R}^{\top} \mathbf{x}_j
        \qquad
        b_j = \log p - \log \left( \frac{1}{U} \sum_u \frac{\exp(
        \mathbf{w}_j^{\top} \mathbf{h}_u)}{Z_u} \right).

    The regression shrinks rows, so :math:`c` gives them the mean norm of
    observed ones. The bias makes the mean probability of the item over users
    :math:`p` of :func:`share_of_unobserved`: otherwise, a few items would be
    chosen for every user. :math:`Z_u` is the sum over observed items.

    Shapes:
        - **lists:** the items of each user, :math:`(U, I)`
    """
    denoiser = model.denoiser
    observed, x = denoiser.observed, denoiser.feature
    if x is None or observed is None or observed.all() or not observed.any():
        return
    # Half precision has no solver.
    dtype = torch.promote_types(x.dtype, torch.float)
    last, x = denoiser.last_weight().to(dtype), x.to(dtype)
    bias = denoiser.lin_out.bias.to(dtype)
    known, other = x[observed], x[~observed]
    mean = last[observed].mean(dim=0)
    gram = known.t() @ known
    gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp(min=1e-12))
    ridge = torch.linalg.solve(gram, known.t() @ (last[observed] - mean))
    norm = (known @ ridge).norm(dim=1).mean()
    scale = last[observed].norm(dim=1).mean() / norm.clamp(min=1e-12)
    row = mean + scale * (other @ ridge)

    users = lists.rowptr.diff().nonzero().view(-1)
    if users.numel() == 0:
        return
    step = max(1, users.numel() // NUM_USERS)
    sample = lists.take(users[::step][:NUM_USERS])
    h = hidden_sampler(model)(sample).to(dtype)
    log_share = torch.full_like(other[:, 0], float('-inf'))
    for block in h.split(512):
        logit = block @ last[observed].t() + bias[observed]
        log_prob = block @ row.t() - logit.logsumexp(dim=1, keepdim=True)
        log_share = torch.logaddexp(log_share, log_prob.logsumexp(dim=0))
    log_share -= math.log(h.size(0))
    log_share -= math.log(share_of_unobserved(lists, other.size(0)))
    lin = denoiser.lin_out
    own = row - (last - lin.weight)[~observed]
    lin.bias[~observed] = -log_share.to(lin.bias.dtype)
    lin.weight[~observed] = own.to(lin.weight.dtype)


def share_of_unobserved(lists: CSR, num_unobserved: int) -> float:
    r"""The probability of an item without observed interactions: twice the
    estimate of `"The Population Frequencies of Species and the Estimation of
    Population Parameters" <https://doi.org/10.1093/biomet/40.3-4.237>`_

    .. math::
        p = \min \left( 2 \, \frac{N_1}{N N_0}, \frac{1}{I} \right)

    with :math:`N` interactions, and :math:`N_0` and :math:`N_1` items with
    none and with one.
    """
    degree = torch.bincount(lists.col, minlength=lists.size[1])
    once = max(1, int((degree == 1).sum()))
    share = SHARE * once / (max(1, lists.nnz) * num_unobserved)
    return min(share, 1 / lists.size[1])
