r"""The last layer of a denoiser and what training asks of it: the squared
error of its output, and the output times modality features.
"""

from .naive import reconstruction_naive
from .reconstruction import reconstruction

__all__ = ['reconstruction', 'reconstruction_naive']
