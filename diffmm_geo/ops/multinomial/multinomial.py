import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.dense import block_size, product
from diffmm_geo.sparse import CSR

# Logits in a block on a CPU: 64 MiB in float32.
BLOCK_SIZE = 2**24


def multinomial(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    lists: CSR,
    feature: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Equals :func:`multinomial_naive`. Logits are computed in blocks of rows,
    and again in the backward pass if there is more than one block.
    """
    count = lists.rowptr.diff().to(h.dtype)
    share = count.clamp(min=1).reciprocal()
    value = share[lists.row]
    # The mean logit of a row's own items needs only their weights.
    own = (h * bag(lists, weight, value)).sum(dim=1)
    own = own + bag(lists, bias.view(-1, 1), value).view(-1)
    height = max(1, block_size(BLOCK_SIZE, h.device) // weight.size(0))
    if h.size(0) <= height:
        log_total, projected = _normalize(h, weight, bias, feature)
    else:
        parts = [
            checkpoint(
                *(_normalize, block, weight, bias, feature),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for block in h.split(height)
        ]
        log_total, projected = (torch.cat(x) for x in zip(*parts))
    nll = torch.where(count > 0, log_total - own, 0.0)
    return nll, count.view(-1, 1) * projected


def _normalize(
    h: Tensor, weight: Tensor, bias: Tensor, feature: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The logarithm of the sum, and the features of the mean."""
    logit = product(h, weight.t()) + bias
    log_total = logit.logsumexp(dim=1)
    if feature.size(1) == 0:
        return log_total, feature.new_zeros(h.size(0), 0)
    return log_total, product((logit - log_total[:, None]).exp(), feature)


def sampled_columns(
    lists: CSR, num_samples: int, observed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The items of a batch and a sample of :obj:`num_samples` other
    :obj:`observed` ones, with the logarithm of the number of items for which
    each one stands. With the rows of these items alone and their logarithms
    added to the bias, :func:`multinomial` estimates sums over all items.

    Shapes:
        - **observed:** :math:`(I)`, of type :obj:`torch.bool`
        - **output:** :math:`(C)`, :math:`(C)`
    """
    device = lists.col.device
    is_own = torch.zeros(lists.size[1], dtype=torch.bool, device=device)
    is_own[lists.col] = True
    is_other = ~is_own if observed is None else observed & ~is_own
    own, others = is_own.nonzero().view(-1), is_other.nonzero().view(-1)
    order = torch.randperm(others.numel(), device=device)[:num_samples]
    log_weight = torch.zeros(own.numel() + order.numel(), device=device)
    log_weight[own.numel() :] = math.log(
        max(1, others.numel()) / max(1, order.numel())
    )
    return torch.cat([own, others[order]]), log_weight
