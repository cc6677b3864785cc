r"""Diffusion over interactions."""

from .denoiser import Denoiser
from .forms import FORMS
from .gaussian_diffusion import GaussianDiffusion
from .interaction_diffusion import InteractionDiffusion
from .modality_diffusion import ModalityDiffusion

__all__ = [
    'FORMS',
    'Denoiser',
    'GaussianDiffusion',
    'InteractionDiffusion',
    'ModalityDiffusion',
]
