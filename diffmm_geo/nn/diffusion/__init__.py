r"""Diffusion over interactions."""

from .denoiser import Denoiser
from .diffusion_training import train_diffusion_epoch
from .forms import FORMS
from .gaussian_diffusion import GaussianDiffusion
from .modality_diffusion import ModalityDiffusion

__all__ = [
    'FORMS',
    'Denoiser',
    'GaussianDiffusion',
    'ModalityDiffusion',
    'train_diffusion_epoch',
]
