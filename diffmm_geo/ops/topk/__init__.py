r"""The top-:math:`k` items of every query, with exclusions."""

from .topk_items import ExclusionLists, exclusion_lists, topk_items

__all__ = ['ExclusionLists', 'exclusion_lists', 'topk_items']
