from __future__ import annotations

import torch
from torch import Tensor

# Channels per block of moments, in double precision.
BLOCK_CHANNELS = 64
# Rounding alone causes standard deviations up to this multiple of the mean.
ROUNDING = 1e-6


class FeatureScaler(torch.nn.Module):
    r"""Standardizes features, so that neither scale nor shift matters

    .. math::
        \mathbf{x}^{\prime} = \frac{\mathbf{x} - \boldsymbol{\mu}}
        {\sqrt{C} \, \boldsymbol{\sigma}}

    with the mean :math:`\boldsymbol{\mu}` and the standard deviation
    :math:`\boldsymbol{\sigma}` of each of the :math:`C` channels in the
    features given to :meth:`fit`. The mean squared norm of rows is one. Rows of
    zeros count as missing and stay zero. Constant channels become zero. Before
    :meth:`fit`, features stay unchanged.

    Args:
        num_channels (int): The number of channels :math:`C`.

    Shapes:
        - **x:** :math:`(N, C)`
        - **output:** :math:`(N, C)`
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(num_channels))
        self.register_buffer('scale', torch.ones(num_channels))

    @torch.no_grad()
    def fit(self, x: Tensor) -> FeatureScaler:
        r"""Takes the mean and the scale from features. Returns itself."""
        there = x[x.any(dim=1)]
        if there.size(0) == 0:
            self.scale.zero_()
            return self
        parts = [
            torch.var_mean(block.double(), dim=0, correction=0)
            for block in there.split(BLOCK_CHANNELS, dim=1)
        ]
        var, mean = (torch.cat(part) for part in zip(*parts))
        std = var.sqrt()
        scale = 1.0 / (std * x.size(1) ** 0.5)
        self.mean.copy_(mean)
        self.scale.copy_(scale.where(std > ROUNDING * mean.abs(), 0.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = (x.to(self.mean.dtype) - self.mean) * self.scale
        return out.masked_fill(~x.any(dim=1, keepdim=True), 0.0)
