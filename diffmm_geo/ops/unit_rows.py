import torch
import torch.nn.functional as F
from torch import Tensor


def unit_rows(x: Tensor) -> Tensor:
    r"""Normalizes rows to unit length, and leaves rows of zeros unchanged.

    Shapes:
        - **x:** :math:`(*, F)`
        - **output:** :math:`(*, F)`
    """
    # The default bound of PyTorch rounds to zero in half precision.
    bound = max(1e-12, torch.finfo(x.dtype).tiny)
    return F.normalize(x, dim=-1, eps=bound)
