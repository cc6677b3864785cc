r"""The models that experiments compare. A new one is an entry of `MODELS`, or
of `FLOORS` if it needs no training.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.training import (
    RECIPES,
    LightGCNConfig,
    LightGCNTrainer,
    Trainer,
    TrainingConfig,
)
from examples.ensemble.floors import (
    Scorer,
    ease,
    item_cosine,
    popularity,
    user_cosine,
)
from examples.ensemble.random_walk import random_walk
from examples.experiments.baselines import BPRTask, MFConfig, VBPRConfig
from examples.experiments.generators import GeneratorConfig, GeneratorTask
from examples.item_graph_gcn import ItemGraphConfig, ItemGraphTask


@dataclass(frozen=True)
class Model:
    r"""A model to train: its settings on a data set, its trainer for a graph,
    settings and a device, and the values from which validation chooses
    settings.
    """

    config: Callable[[str], TrainingConfig]
    trainer: Callable[[HeteroData, Any, str], Trainer]
    uses_features: bool = False
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)


MODELS = {
    'DiffMM': Model(
        lambda dataset: GeneratorConfig(
            **vars(RECIPES.get(dataset, RECIPES['default']))
        ),
        lambda data, config, device: Trainer(
            (DiffMMTask if config.generator == 'diffusion' else GeneratorTask)(
                data, config, device=device
            )
        ),
        uses_features=True,
    ),
    'ItemGraph': Model(
        lambda _: ItemGraphConfig(),
        lambda data, config, device: Trainer(
            ItemGraphTask(data, config, device=device)
        ),
        uses_features=True,
    ),
    'LightGCN': Model(
        lambda _: LightGCNConfig(),
        lambda data, config, device: LightGCNTrainer(
            data, config, device=device
        ),
        grid={'num_layers': (1, 2, 3), 'reg_weight': (1e-4, 1e-3, 1e-2, 1e-1)},
    ),
    'MF-BPR': Model(
        lambda _: MFConfig(),
        lambda data, config, device: Trainer(BPRTask(data, config, device)),
        grid={'lr': (1e-3, 5e-3), 'reg_weight': (1e-2, 1e-1, 1.0)},
    ),
    'VBPR': Model(
        lambda _: VBPRConfig(),
        lambda data, config, device: Trainer(BPRTask(data, config, device)),
        uses_features=True,
        grid={
            'reg_weight': (1e-2, 1e-1, 1.0),
            'feature_reg_weight': (0.0, 1e-3, 1e-2, 1e-1, 1.0),
        },
    ),
}

# Computed from the interactions and the numbers of users and items.
FLOORS: dict[str, Callable[[Tensor, int, int], Scorer]] = {
    'Popularity': popularity,
    'Item cosine': item_cosine,
    'User cosine': user_cosine,
    'EASE': ease,
    'Random walk': random_walk,
}
