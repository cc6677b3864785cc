from torch import Tensor

from diffmm_geo.sparse import CSR


def reconstruction_naive(
    h: Tensor, weight: Tensor, bias: Tensor, lists: CSR, feature: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The readable reference. Computes for each row

    .. math::
        {\| \mathbf{a}_0 - \mathbf{\hat{a}} \|}^2 \qquad
        \mathbf{\hat{a}} \, \mathbf{F} \qquad
        \mathbf{\hat{a}} = \mathbf{W} \mathbf{h} + \mathbf{b}

    Args:
        h (torch.Tensor): The hidden layer :math:`\mathbf{h}`.
        weight (torch.Tensor): The weight :math:`\mathbf{W}`.
        bias (torch.Tensor): The bias :math:`\mathbf{b}`.
        lists (CSR): The distinct interactions :math:`\mathbf{a}_0`.
        feature (torch.Tensor): The features :math:`\mathbf{F}`.

    Shapes:
        - **h:** :math:`(B, H)`
        - **weight:** :math:`(I, H)`
        - **bias:** :math:`(I)`
        - **feature:** :math:`(I, F)`
        - **output:** :math:`(B)`, :math:`(B, F)`
    """
    out = h @ weight.t() + bias
    target = lists.dense(out)
    return (out - target).square().sum(dim=1), out @ feature
