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
from .loss import CrossModalContrastiveLoss, info_nce, sampled_softmax_loss
from .models import (
    DiffMM,
    ItemGraphLightGCN,
)

__all__ = [
    'BipartiteLGConv',
    'CrossModalContrastiveLoss',
    'Denoiser',
    'DiffMM',
    'GaussianDiffusion',
    'InteractionDiffusion',
    'ItemGraphLightGCN',
    'MaskedDiffusion',
    'MaskedInteractionDiffusion',
    'ModalityDiffusion',
    'MultiModalLightGCNConv',
    'info_nce',
    'sampled_softmax_loss',
]
