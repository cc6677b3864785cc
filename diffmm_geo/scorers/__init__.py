r"""Scorers map users to scores of all items. Some need no training, and others
wrap trained parts.
"""

from .denoiser_scorer import DenoiserScorer
from .ease import EASE
from .embedding_scorer import EmbeddingScorer
from .feature_cosine import FeatureCosine
from .fused_scorer import FusedScorer
from .interaction_scorer import InteractionScorer
from .item_cosine import ItemCosine
from .popularity import Popularity
from .random_walk import RandomWalk
from .scorer import Scorer
from .two_stage_scorer import TwoStageScorer
from .user_cosine import UserCosine

__all__ = [
    'EASE',
    'DenoiserScorer',
    'EmbeddingScorer',
    'FeatureCosine',
    'FusedScorer',
    'InteractionScorer',
    'ItemCosine',
    'Popularity',
    'RandomWalk',
    'Scorer',
    'TwoStageScorer',
    'UserCosine',
]
