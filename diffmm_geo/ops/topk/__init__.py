r"""The top-:math:`k` items of each query, with exclusions."""

from .topk_items import topk_items

__all__ = ['topk_items']
