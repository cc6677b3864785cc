r"""Training of the whole model and of baselines under the same protocol."""

from diffmm_geo.tasks.config import (
    PRECISIONS,
    DenoiserConfig,
    ItemGraphConfig,
    LightGCNConfig,
    MFConfig,
    TrainingConfig,
    VBPRConfig,
)
from diffmm_geo.tasks.diffmm_config import BATCHINGS, DiffMMConfig
from diffmm_geo.tasks.negative_sampler import NegativeSampler
from diffmm_geo.tasks.neighbor_batches import NeighborBatch, NeighborBatches
from diffmm_geo.tasks.seed_probability import SeedProbability

from .diffmm_trainer import DiffMMTrainer
from .ensemble import Ensemble, EnsembleConfig
from .item_graph_trainer import ItemGraphTrainer
from .lightgcn_trainer import LightGCNTrainer
from .loggers import CSVLogger, Logger, TensorBoardLogger
from .mf_trainer import MFTrainer
from .recipes import RECIPES
from .run_files import save_ensemble, save_run
from .trainer import Trainer
from .vbpr_trainer import VBPRTrainer

__all__ = [
    'BATCHINGS',
    'PRECISIONS',
    'RECIPES',
    'CSVLogger',
    'DenoiserConfig',
    'DiffMMConfig',
    'DiffMMTrainer',
    'Ensemble',
    'EnsembleConfig',
    'ItemGraphConfig',
    'ItemGraphTrainer',
    'LightGCNConfig',
    'LightGCNTrainer',
    'Logger',
    'MFConfig',
    'MFTrainer',
    'NegativeSampler',
    'NeighborBatch',
    'NeighborBatches',
    'SeedProbability',
    'TensorBoardLogger',
    'Trainer',
    'TrainingConfig',
    'VBPRConfig',
    'VBPRTrainer',
    'save_ensemble',
    'save_run',
]
