import torch
import torch.nn.functional as F
from torch import Tensor


def unit_rows(x: Tensor) -> Tensor:
    r"""Rows divided by their length; rows of zeros stay as they are, in half
    precision, too, in which PyTorch's own bound of the length is zero.

    Args:
        x (torch.Tensor): The rows.

    Shapes:
        - **x:** :math:`(*, F)`
        - **output:** :math:`(*, F)`
    """
    bound = max(1e-12, torch.finfo(x.dtype).tiny)
    return F.normalize(x, dim=-1, eps=bound)
