r"""Training of the whole model and of baselines under the same protocol."""

from .config import PRECISIONS, TrainingConfig
from .diffmm_trainer import DiffMMConfig, DiffMMTrainer
from .lightgcn_trainer import LightGCNConfig, LightGCNTrainer
from .loggers import CSVLogger, Logger, TensorBoardLogger
from .mf_trainer import MFConfig, MFTrainer
from .negative_sampler import NegativeSampler
from .recipes import RECIPES
from .run_files import save_run
from .trainer import Trainer
from .vbpr_trainer import VBPRConfig, VBPRTrainer

__all__ = [
    'PRECISIONS',
    'RECIPES',
    'CSVLogger',
    'DiffMMConfig',
    'DiffMMTrainer',
    'LightGCNConfig',
    'LightGCNTrainer',
    'Logger',
    'MFConfig',
    'MFTrainer',
    'NegativeSampler',
    'TensorBoardLogger',
    'Trainer',
    'TrainingConfig',
    'VBPRConfig',
    'VBPRTrainer',
    'save_run',
]
