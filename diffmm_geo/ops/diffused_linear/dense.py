from torch import Tensor

from diffmm_geo.ops.dropout import dropout
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.ops.product import product
from diffmm_geo.ops.row_streams import RowStreams, normal_


def diffused_linear_dense(
    lists: ItemLists,
    weight: Tensor,
    signal: Tensor,
    noise_scale: Tensor,
    p: float,
    noise: Tensor | None = None,
    streams: RowStreams | None = None,
) -> Tensor:
    r"""The readable truth, which holds the rows of all items

    .. math::
        \mathbf{Z} = \mathrm{dropout}(\mathbf{s} \odot \mathbf{A}_0 +
        \boldsymbol{\sigma} \odot \boldsymbol{\epsilon}) \, \mathbf{W}.

    Args:
        lists (ItemLists): The interactions :math:`\mathbf{A}_0`.
        weight (torch.Tensor): The weight :math:`\mathbf{W}`.
        signal (torch.Tensor): The scale :math:`\mathbf{s}` of each row.
        noise_scale (torch.Tensor): The scale :math:`\boldsymbol{\sigma}` of
            each row's noise.
        p (float): The probability of dropout.
        noise (torch.Tensor, optional): The noise
            :math:`\boldsymbol{\epsilon}`. (default: :obj:`None`, drawn)
        streams (RowStreams, optional): What to draw from in place of the
            global stream. (default: :obj:`None`)

    Shapes:
        - **weight:** :math:`(I, H)`
        - **signal, noise_scale:** :math:`(B)`
        - **noise:** :math:`(B, I)`
        - **output:** :math:`(B, H)`
    """
    if noise is None:
        noise = normal_(
            weight.new_empty(lists.num_rows, weight.size(0)), streams
        )
        x = noise.mul_(noise_scale.view(-1, 1))
    else:
        x = noise * noise_scale.view(-1, 1)
    x[lists.row, lists.item] += signal[lists.row]
    return product(dropout(x, p, streams), weight)
