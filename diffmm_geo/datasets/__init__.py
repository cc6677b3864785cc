r"""Multi-modal recommendation datasets."""

from diffmm_geo.utils.raw_ids import RawIds

from .diffmm import AmazonBaby, AmazonSports, DiffMMDataset, TikTok
from .folder import load_folder
from .from_random_link_split import from_random_link_split
from .load_dataset import DATASETS, load_dataset
from .mmrec import MMRecDataset, write_mmrec
from .movielens import MovieLens100K
from .read_interactions import read_interactions
from .split_interactions import split_interactions

__all__ = [
    'DATASETS',
    'AmazonBaby',
    'AmazonSports',
    'DiffMMDataset',
    'MMRecDataset',
    'MovieLens100K',
    'RawIds',
    'TikTok',
    'from_random_link_split',
    'load_dataset',
    'load_folder',
    'read_interactions',
    'split_interactions',
    'write_mmrec',
]
