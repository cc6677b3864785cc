import torch
from torch import Tensor

from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.ops.product import gram, product

# Added to the diagonal of the Gram matrix, of which rounding may have made
# one that is not positive.
JITTER = 1e-5
# From so many items for each hidden channel on, a dropped-out sum over items
# is normal for all that can be told.
MIN_ITEMS_PER_CHANNEL = 10


def suits_gram(num_items: int, hidden_channels: int) -> bool:
    r"""Whether there are enough items for the normal law to hold."""
    return num_items >= MIN_ITEMS_PER_CHANNEL * hidden_channels


def diffused_linear_gram(
    lists: ItemLists,
    weight: Tensor,
    signal: Tensor,
    noise_scale: Tensor,
    p: float,
) -> Tensor:
    r"""The same without rows of all items: interactions are looked up, and
    their noise is drawn behind the layer, where it is normal with covariance

    .. math::
        \mathrm{Cov}(\boldsymbol{\epsilon} \, \mathbf{W}) = \mathbf{W}^{\top}
        \mathbf{W} \, / \, (1 - p)

    (exact without dropout, and as the number of items grows with it; items'
    dropout is drawn apart from their noise's). Arguments are those of
    :func:`diffused_linear_dense`.
    """
    value = dropout(signal[lists.row], p)
    covariance = gram(weight)
    diagonal = covariance.detach().diagonal()
    covariance = covariance + torch.diag_embed(
        (JITTER * diagonal.mean()).expand(diagonal.size())
    )
    # Triangular factors need single precision.
    wide = torch.promote_types(covariance.dtype, torch.float)
    with torch.autocast(weight.device.type, enabled=False):
        factor, _ = torch.linalg.cholesky_ex(covariance.to(wide))
    factor = factor.to(covariance.dtype)
    noise = torch.randn(
        lists.num_rows, weight.size(1), dtype=weight.dtype, device=weight.device
    )
    scale = noise_scale / (1 - p) ** 0.5
    noise = product(noise * scale.view(-1, 1), factor.t())
    return bag(lists, weight, value) + noise
