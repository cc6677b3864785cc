r"""Diffusion over interactions."""

from .denoiser import Denoiser
from .gaussian_diffusion import GaussianDiffusion
from .interaction_diffusion import InteractionDiffusion
from .list_loss import FORMS
from .masked_diffusion import MaskedDiffusion
from .masked_interaction_diffusion import MaskedInteractionDiffusion
from .modality_diffusion import ModalityDiffusion

__all__ = [
    'FORMS',
    'Denoiser',
    'GaussianDiffusion',
    'InteractionDiffusion',
    'MaskedDiffusion',
    'MaskedInteractionDiffusion',
    'ModalityDiffusion',
]
