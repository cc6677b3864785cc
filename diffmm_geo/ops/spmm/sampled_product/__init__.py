r"""The product of two dense matrices where a sparse one has entries."""

from .blockwise import sampled_product_blockwise
from .sampled_product import sampled_product

__all__ = ['sampled_product', 'sampled_product_blockwise']
