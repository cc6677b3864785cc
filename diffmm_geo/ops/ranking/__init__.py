r"""The highest items of each query, and the metrics of rankings."""

from .blocks import block_height
from .equal_rows import equal_rows
from .expected_metrics import METRICS, expected_metrics
from .topk_items import topk_items

__all__ = [
    'METRICS',
    'block_height',
    'equal_rows',
    'expected_metrics',
    'topk_items',
]
