r"""Training of the whole model and of a baseline under the same protocol."""

from .config import PRECISIONS, TrainingConfig
from .diffmm_trainer import DiffMMConfig, DiffMMTrainer
from .lightgcn_trainer import LightGCNConfig, LightGCNTrainer
from .negative_sampler import NegativeSampler
from .recipes import RECIPES
from .run_files import save_run
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
    'save_run',
]
