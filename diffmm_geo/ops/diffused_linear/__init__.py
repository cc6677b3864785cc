r"""The first layer of a denoiser, applied to diffused interactions."""

from .dense import diffused_linear_dense
from .gram import diffused_linear_gram, suits_gram
from .shared import diffused_linear_shared

__all__ = [
    'diffused_linear_dense',
    'diffused_linear_gram',
    'diffused_linear_shared',
    'suits_gram',
]
