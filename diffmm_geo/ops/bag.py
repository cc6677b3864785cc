import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.sparse import CSR


def bag(lists: CSR, weight: Tensor, value: Tensor | None = None) -> Tensor:
    r"""Sums the rows of :obj:`weight` that each row of :obj:`lists` selects,
    weighted by :obj:`value` if given.

    Shapes:
        - **weight:** :math:`(I, H)`
        - **value:** :math:`(E)`
        - **output:** :math:`(B, H)`
    """
    with torch.autocast(weight.device.type, enabled=False):
        return F.embedding_bag(
            lists.col,
            weight,
            lists.rowptr,
            mode='sum',
            per_sample_weights=value,
            include_last_offset=True,
        )


def add_bag_grad_(
    grad_weight: Tensor,
    lists: CSR,
    grad: Tensor,
    value: Tensor | None = None,
    alpha: float = 1,
) -> Tensor:
    r"""Adds the gradient of :meth:`bag`, times :obj:`alpha`, to that of
    :obj:`weight` in place. Only selected rows change.
    """
    grad = grad[lists.row]
    if value is not None:
        grad = grad * value.view(-1, 1)
    return grad_weight.index_add_(0, lists.col, grad, alpha=alpha)
