r"""The product of two dense matrices where a sparse one has entries."""

from .blockwise import sampled_product

__all__ = ['sampled_product']
