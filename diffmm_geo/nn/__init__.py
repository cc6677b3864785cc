r"""Layers, losses, diffusion and models."""

from .conv import BipartiteLGConv, MultiModalLightGCNConv
from .diffusion import (
    Denoiser,
    GaussianDiffusion,
    InteractionDiffusion,
    MaskedDiffusion,
    MaskedInteractionDiffusion,
    ModalityDiffusion,
)
from .loss import CrossModalContrastiveLoss, info_nce
from .models import DiffMM

__all__ = [
    'BipartiteLGConv',
    'CrossModalContrastiveLoss',
    'Denoiser',
    'DiffMM',
    'GaussianDiffusion',
    'InteractionDiffusion',
    'MaskedDiffusion',
    'MaskedInteractionDiffusion',
    'ModalityDiffusion',
    'MultiModalLightGCNConv',
    'info_nce',
]
