r"""Training of the whole model and of baselines under the same protocol."""

from diffmm_geo.tasks.config import (
    PRECISIONS,
    LightGCNConfig,
    TrainingConfig,
)
from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.tasks.negative_sampler import NegativeSampler

from .diffmm_trainer import DiffMMTrainer
from .lightgcn_trainer import LightGCNTrainer
from .recipes import RECIPES
from .trainer import Trainer

__all__ = [
    'PRECISIONS',
    'RECIPES',
    'DiffMMConfig',
    'DiffMMTrainer',
    'LightGCNConfig',
    'LightGCNTrainer',
    'NegativeSampler',
    'Trainer',
    'TrainingConfig',
]
