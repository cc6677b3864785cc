from torch import Tensor

from diffmm_geo.ops.dense import product
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.sparse import CSR


def diffused_linear_naive(
    lists: CSR,
    weight: Tensor,
    signal: Tensor,
    noise_scale: Tensor,
    p: float,
    noise: Tensor | None = None,
) -> Tensor:
    r"""The readable reference, with dense rows of items

    .. math::
        \mathbf{Z} = \mathrm{dropout}(\mathbf{s} \odot \mathbf{A}_0 +
        \boldsymbol{\sigma} \odot \boldsymbol{\epsilon}) \, \mathbf{W}.

    Args:
        lists (CSR): The interactions :math:`\mathbf{A}_0`.
        weight (torch.Tensor): The weight :math:`\mathbf{W}`.
        signal (torch.Tensor): The scale :math:`\mathbf{s}` of each row.
        noise_scale (torch.Tensor): The scale :math:`\boldsymbol{\sigma}` of
            each row's noise.
        p (float): The dropout probability.
        noise (torch.Tensor, optional): The noise
            :math:`\boldsymbol{\epsilon}`. If not given, it is standard normal.
            (default: :obj:`None`)

    Shapes:
        - **weight:** :math:`(I, H)`
        - **signal, noise_scale:** :math:`(B)`
        - **noise:** :math:`(B, I)`
        - **output:** :math:`(B, H)`
    """
    scale = noise_scale.view(-1, 1)
    if noise is None:
        x = weight.new_empty(lists.size[0], weight.size(0)).normal_()
        x.mul_(scale)
    else:
        x = noise * scale
    x.view(-1).index_add_(0, lists.derive(_place), signal[lists.row])
    return product(dropout(x, p), weight)


def _place(lists: CSR) -> Tensor:
    r"""The places of entries in dense rows, one after the other."""
    return lists.row * lists.size[1] + lists.col
