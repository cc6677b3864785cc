r"""A graph is the same for every leading index of its features
:obj:`[*, N, F]`, which are put side by side as channels, :obj:`[N, * x F]`.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor


def side_by_side(x: Tensor) -> Tensor:
    r"""Leading dimensions as channels."""
    if x.dim() == 2:
        return x
    num_rows, num_channels = x.size()[-2:]
    x = x.reshape(prod(x.size()[:-2]), num_rows, num_channels)
    return x.transpose(0, 1).reshape(num_rows, x.size(0) * num_channels)


def back_in_front(x: Tensor, size: Sequence[int]) -> Tensor:
    r"""The inverse of :meth:`side_by_side`, for features that had that size
    (but for the number of rows).
    """
    if len(size) == 2:
        return x
    *batch, _, num_channels = size
    x = x.view(x.size(0), prod(batch), num_channels).transpose(0, 1)
    return x.reshape(*batch, x.size(1), num_channels)
