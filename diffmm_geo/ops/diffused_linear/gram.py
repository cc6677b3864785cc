import torch
from torch import Tensor

from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.dense import gram, product
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.sparse import CSR

# Added to the diagonal of the Gram matrix, relative to its mean, since rounding
# can make the matrix indefinite.
JITTER = 1e-5
# With this many items per hidden channel, a sum over items with dropout is
# approximately normal.
MIN_ITEMS_PER_CHANNEL = 10


def suits_gram(num_items: int, hidden_channels: int) -> bool:
    r"""Whether there are enough items for the normal approximation."""
    return num_items >= MIN_ITEMS_PER_CHANNEL * hidden_channels


def diffused_linear_gram(
    lists: CSR, weight: Tensor, signal: Tensor, noise_scale: Tensor, p: float
) -> Tensor:
    r"""Equals :func:`diffused_linear_naive` in distribution, without dense rows
    of items. It draws the noise after the layer, from a normal distribution
    with covariance

    .. math::
        \mathrm{Cov}(\boldsymbol{\epsilon} \, \mathbf{W}) = \mathbf{W}^{\top}
        \mathbf{W} \, / \, (1 - p).

    The result is exact without dropout. With dropout, it is exact in the limit
    of many items. Dropout is drawn independently for interactions and noise
    here.
    """
    value = dropout(signal[lists.row], p)
    covariance = gram(weight)
    diagonal = covariance.detach().diagonal()
    covariance = covariance + torch.diag_embed(
        (JITTER * diagonal.mean()).expand(diagonal.size())
    )
    # The factorization needs single precision.
    wide = torch.promote_types(covariance.dtype, torch.float)
    with torch.autocast(weight.device.type, enabled=False):
        factor, _ = torch.linalg.cholesky_ex(covariance.to(wide))
    factor = factor.to(covariance.dtype)
    noise = weight.new_empty(lists.size[0], weight.size(1)).normal_()
    scale = noise_scale / (1 - p) ** 0.5
    noise = product(noise * scale.view(-1, 1), factor.t())
    return bag(lists, weight, value) + noise
