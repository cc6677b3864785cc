r"""Multi-modal recommendation datasets."""

from .amazon import AmazonBaby, AmazonSports
from .load_dataset import DATASETS, load_dataset
from .mmrec import MMRecDataset
from .movielens import MovieLens100K
from .tiktok import TikTok

__all__ = [
    'DATASETS',
    'AmazonBaby',
    'AmazonSports',
    'MMRecDataset',
    'MovieLens100K',
    'TikTok',
    'load_dataset',
]
