r"""The last layer of a denoiser with a multinomial likelihood in training."""

from .multinomial import multinomial, sampled_columns
from .naive import multinomial_naive

__all__ = ['multinomial', 'multinomial_naive', 'sampled_columns']
