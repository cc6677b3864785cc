import pytest
import torch

from diffmm_geo.nn import GaussianDiffusion, InteractionDiffusion


@pytest.fixture
def edge_index(random_edges):
    r"""Interactions of ten users with eight items."""
    return random_edges(10, 8, 25)


@pytest.fixture
def make():
    r"""The diffusion of one modality, far from its initialization."""

    def make(*process, **kwargs):
        process = GaussianDiffusion(*(process or (3, 1.0, 1e-3, 0.5)))
        kwargs = {'hidden_channels': 5, **kwargs}
        diffusion = InteractionDiffusion(8, process, **kwargs)
        for parameter in diffusion.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        return diffusion

    return make
