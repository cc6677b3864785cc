r"""The top-:math:`k` items of every query, with exclusions."""

from .topk_items import topk_items

__all__ = ['topk_items']
