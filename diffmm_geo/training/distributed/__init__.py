r"""Training in several processes, on one device each."""

from .diffmm_trainer import DistributedDiffMMTrainer
from .ranks import LostRankError, Ranks, joined_ranks

__all__ = [
    'DistributedDiffMMTrainer',
    'LostRankError',
    'Ranks',
    'joined_ranks',
]
