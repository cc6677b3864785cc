from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.utils.checks import check_matrix, check_modalities

# Elements per block in double precision: 32 MiB.
BLOCK_SIZE = 2**22
# Channels per block of variances in double precision.
BLOCK_CHANNELS = 64
# A smaller share of the root mean square is the rounding of a constant.
MIN_SPREAD = 1e-6

Moments = tuple[Tensor, Tensor]


def modality_features(
    store: Any, num_items: int, modalities: Sequence[str] | None = None
) -> dict[str, Tensor]:
    r"""The checked raw features :obj:`x_{m}` of an item store."""
    there = [key[2:] for key in store.keys() if key.startswith('x_')]
    if modalities is None and not there:
        raise ValueError(
            f"'data' needs item features 'x_{{modality}}' "
            f'(got {list(store.keys())})'
        )
    modalities = check_modalities(there if modalities is None else modalities)
    missing = [m for m in modalities if m not in there]
    if missing:
        raise ValueError(
            f"'modalities' needs names out of {there}, which have features "
            f'(got {missing})'
        )
    features = {}
    for m in modalities:
        name = f'x_{m}'
        x = check_matrix(name, store[name], num_items)
        if x.size(1) == 0:
            raise ValueError(f"'{name}' needs at least one channel (got none)")
        # Features are data and get no gradient.
        features[m] = x.detach() if x.requires_grad else x
    return features


@torch.no_grad()
def center_and_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The mean of each channel, and the root mean square of what remains
    without it, over all channels, in double precision. The scale of constant
    features is that of the mean itself, and :obj:`1` for zeros.

    Shapes:
        - **x:** :math:`(N, C)`, of any type, such as half precision in a file
        - **output:** :math:`(C)` and a scalar
    """
    height = max(1, BLOCK_SIZE // max(1, x.size(1)))
    mean = sum(block.double().sum(dim=0) for block in x.split(height))
    mean = torch.as_tensor(mean) / max(1, x.size(0))
    square = sum(
        (block.double() - mean).square().sum() for block in x.split(height)
    )
    scale = (torch.as_tensor(square) / max(1, x.numel())).sqrt()
    size = mean.square().mean().sqrt()
    scale = torch.where(scale > MIN_SPREAD * size, scale, size)
    tiny = torch.finfo(torch.float).tiny
    return mean, torch.where(scale > tiny, scale, torch.ones_like(scale))


@torch.no_grad()
def mean_and_scale(x: Tensor) -> Moments:
    r"""The mean and the inverse standard deviation of each channel in double
    precision. Rows of zeros count as missing. Constant channels have the scale
    zero.

    Shapes:
        - **x:** :math:`(N, C)`, of any type
        - **output:** :math:`(C)`, :math:`(C)`
    """
    there = x.any(dim=1)
    if not there.any():
        zeros = torch.zeros(x.size(1), dtype=torch.double, device=x.device)
        return zeros, zeros
    moments = [
        torch.var_mean(block.double(), dim=0, correction=0)
        for block in x[there].split(BLOCK_CHANNELS, dim=1)
    ]
    var, mean = (torch.cat(parts) for parts in zip(*moments))
    std = var.sqrt()
    return mean, (1.0 / std).where(std > MIN_SPREAD * mean.abs(), 0.0)


@torch.no_grad()
def standardize(x: Tensor, moments: Moments | None = None) -> Tensor:
    r"""Features with zero mean and equal variance in each channel. The mean
    squared norm of rows is one. Rows of zeros count as missing and stay zero,
    and constant channels become zero. The :obj:`moments` are those of the
    features themselves unless given.

    Shapes:
        - **x:** :math:`(N, C)`, of any type
        - **output:** :math:`(N, C)`, at least in single precision
    """
    there = x.any(dim=1, keepdim=True)
    x = x.to(torch.promote_types(x.dtype, torch.float))
    mean, scale = moments or mean_and_scale(x)
    scale = scale / x.size(1) ** 0.5
    out: Tensor = (x - mean.to(x)) * scale.to(x)
    return out.masked_fill(~there, 0.0)
