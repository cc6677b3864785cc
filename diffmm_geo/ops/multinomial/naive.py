from torch import Tensor

from diffmm_geo.sparse import CSR


def multinomial_naive(
    h: Tensor, weight: Tensor, bias: Tensor, lists: CSR, feature: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The readable reference. Computes for each row with interactions
    :math:`\mathcal{N}`

    .. math::
        - \frac{1}{|\mathcal{N}|} \sum_{i \in \mathcal{N}} \log \pi_i \qquad
        |\mathcal{N}| \, \boldsymbol{\pi} \, \mathbf{F} \qquad
        \boldsymbol{\pi} = \mathrm{softmax}(\mathbf{W} \mathbf{h} + \mathbf{b})

    The arguments and shapes are those of
    :func:`~diffmm_geo.ops.reconstruction.reconstruction_naive`.
    """
    log_prob = (h @ weight.t() + bias).log_softmax(dim=1)
    target = lists.dense(log_prob)
    count = target.sum(dim=1, keepdim=True)
    nll = -(log_prob * target / count.clamp(min=1)).sum(dim=1)
    return nll, count * (log_prob.exp() @ feature)
