import pytest
import torch

from diffmm_geo.nn import (
    GaussianDiffusion,
    InteractionDiffusion,
    MaskedInteractionDiffusion,
)


@pytest.fixture
def edge_index(random_edges):
    r"""Interactions of ten users with eight items."""
    return random_edges(10, 8, 25)


@pytest.fixture
def x_start(edge_index):
    x = torch.zeros(10, 8)
    x[edge_index[0], edge_index[1]] = 1
    return x


@pytest.fixture
def make():
    r"""The diffusion of one modality, far from its initialization."""

    def make(process=None, **kwargs):
        process = process or GaussianDiffusion(3, 1.0, 1e-3, 0.5)
        gaussian = isinstance(process, GaussianDiffusion)
        kind = InteractionDiffusion if gaussian else MaskedInteractionDiffusion
        diffusion = kind(8, process, **{'hidden_channels': 5, **kwargs})
        for parameter in diffusion.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        return diffusion

    return make
