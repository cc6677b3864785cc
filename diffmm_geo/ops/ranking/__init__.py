r"""The highest items of each query, and the metrics of rankings."""

from .expected_metrics import METRICS, expected_metrics
from .product_scorer import product_scorer
from .search_index import fill_index, search_index
from .topk_items import block_height, topk_among, topk_items

__all__ = [
    'METRICS',
    'block_height',
    'expected_metrics',
    'fill_index',
    'product_scorer',
    'search_index',
    'topk_among',
    'topk_items',
]
