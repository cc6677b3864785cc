r"""The last layer of a denoiser in training: the squared error of its output,
and the product of its output with modality features.
"""

from .naive import reconstruction_naive
from .reconstruction import reconstruction
from .square import DenseSquare, GramSquare, SampledSquare, Square

__all__ = [
    'DenseSquare',
    'GramSquare',
    'SampledSquare',
    'Square',
    'reconstruction',
    'reconstruction_naive',
]
