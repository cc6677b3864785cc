r"""Training in several processes, on one device each."""

from diffmm_geo.utils.ranks import LostRankError, Ranks

from .diffmm_trainer import DistributedDiffMMTrainer
from .joined_ranks import joined_ranks

__all__ = [
    'DistributedDiffMMTrainer',
    'LostRankError',
    'Ranks',
    'joined_ranks',
]
