r"""Rankings of items that know which scores are equal."""

from .expected_metrics import METRICS, expected_metrics
from .item_ranker import ItemRanker
from .ranking import Ranking, rank_scores

__all__ = [
    'METRICS',
    'ItemRanker',
    'Ranking',
    'expected_metrics',
    'rank_scores',
]
