r"""The first layer of a denoiser on diffused interactions."""

from .gram import diffused_linear_gram, suits_gram
from .naive import diffused_linear_naive
from .shared import diffused_linear_shared

__all__ = [
    'diffused_linear_gram',
    'diffused_linear_naive',
    'diffused_linear_shared',
    'suits_gram',
]
