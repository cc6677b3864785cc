r"""Multi-modal recommendation datasets."""

from .amazon import AmazonBaby, AmazonSports
from .mmrec import MMRecDataset
from .movielens import MovieLens100K
from .tiktok import TikTok

__all__ = [
    'AmazonBaby',
    'AmazonSports',
    'MMRecDataset',
    'MovieLens100K',
    'TikTok',
]
