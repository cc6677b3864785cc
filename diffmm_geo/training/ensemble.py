from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import evaluate_scorer
from diffmm_geo.scorers import (
    EASE,
    EmbeddingScorer,
    FusedScorer,
    ItemCosine,
    RandomWalk,
    Scorer,
)
from diffmm_geo.tasks import DenoiserTask, ItemGraphTask, Task
from diffmm_geo.tasks.config import DenoiserConfig, ItemGraphConfig
from diffmm_geo.training.trainer import Trainer
from diffmm_geo.utils.checks import (
    check_choice,
    check_int,
    check_number,
    check_type,
)

Record = dict[str, Any]

#: The members of an :class:`Ensemble`, those without training first.
MEMBERS = ('walk', 'cosine', 'ease', 'denoiser', 'graph')


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    r"""The settings of an :class:`Ensemble`.

    Args:
        members (list[str], optional): The members, some of :obj:`"walk"`,
            :obj:`"cosine"`, :obj:`"ease"`, :obj:`"denoiser"` and
            :obj:`"graph"`. (default: all)
        denoiser (DenoiserConfig, optional): The settings of the denoiser.
        graph (ItemGraphConfig, optional): The settings of
            :class:`~diffmm_geo.nn.ItemGraphLightGCN`.
        ease_reg_factor (float, optional): The regularization of
            :class:`~diffmm_geo.scorers.EASE`, as a multiple of the mean number
            of interactions of an item. (default: :obj:`10.0`)
        max_ease_items (int, optional): With more items, :obj:`"ease"` is left
            out. (default: :obj:`12000`)
        k (int, optional): The length of the ranking that epochs and weights are
            chosen by, also in :obj:`denoiser` and :obj:`graph`.
            (default: :obj:`20`)
    """

    members: tuple[str, ...] = MEMBERS
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    graph: ItemGraphConfig = field(default_factory=ItemGraphConfig)
    ease_reg_factor: float = 10.0
    max_ease_items: int = 12_000
    k: int = 20

    def __post_init__(self) -> None:
        for member in self.members:
            check_choice('members', member, MEMBERS)
        if not self.members:
            raise ValueError("'members' needs at least one member (got none)")
        check_type('denoiser', self.denoiser, DenoiserConfig)
        check_type('graph', self.graph, ItemGraphConfig)
        check_number('ease_reg_factor', self.ease_reg_factor, 0, low_open=True)
        check_int('max_ease_items', self.max_ease_items, 0)
        check_int('k', self.k)


class Ensemble:
    r"""The weighted sum of recommenders that err differently, whose weights
    validation chooses; see :class:`~diffmm_geo.scorers.FusedScorer`. It is not
    DiffMM, but made of the parts of this library:

    - :obj:`"walk"`: a :class:`~diffmm_geo.scorers.RandomWalk` over interactions
      and graphs of similar items,
    - :obj:`"cosine"` and :obj:`"ease"`: :class:`~diffmm_geo.scorers.ItemCosine`
      and :class:`~diffmm_geo.scorers.EASE`,
    - :obj:`"denoiser"`: a masked diffusion over interactions, see
      :class:`~diffmm_geo.tasks.DenoiserTask`,
    - :obj:`"graph"`: an :class:`~diffmm_geo.nn.ItemGraphLightGCN`.

    The walk wins on sparse data, the linear autoencoder and the denoiser on
    dense data. A weight may be zero.

    Args:
        data (HeteroData): The user-item graph with item features; see
            :class:`~diffmm_geo.tasks.Task`.
        config (EnsembleConfig, optional): The settings.
            (default: :obj:`None`, :class:`EnsembleConfig` with its defaults)
        modalities (list[str], optional): The modalities to use. If not given,
            uses all modalities of the items. (default: :obj:`None`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Attributes:
        trainers (dict[str, Trainer]): The trainers of :obj:`"denoiser"` and
            :obj:`"graph"`.
        scorers (dict[str, Scorer]): The members, after :meth:`fit`.
        scorer (FusedScorer): Their weighted sum, after :meth:`fit`.
        history (list[dict]): For each member and, as :obj:`"ensemble"`, for
            their sum: its name, metrics on :obj:`"val"`, and seconds.

    Raises:
        ValueError: If the data are incomplete or invalid.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import Ensemble, EnsembleConfig
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> data['item'].x_image = torch.randn(6, 16)
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> config = EnsembleConfig(members=('walk', 'cosine'), k=3)
        >>> scorer = Ensemble(data, config).fit()
        >>> scorer.recommend(torch.tensor([0]), k=2).size()
        torch.Size([1, 2])
    """

    def __init__(
        self,
        data: HeteroData,
        config: EnsembleConfig | None = None,
        modalities: Sequence[str] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        self.config = EnsembleConfig() if config is None else config
        check_type('config', self.config, EnsembleConfig)
        # Holds the data for all members, and checks them.
        k = self.config.k
        graph = replace(self.config.graph, k=k)
        self.task = ItemGraphTask(data, graph, modalities, edge_type, device)
        tasks: dict[str, Task] = {'graph': self.task}
        if 'denoiser' in self.config.members:
            denoiser = replace(self.config.denoiser, k=k)
            tasks['denoiser'] = DenoiserTask(data, denoiser, edge_type, device)
        self.trainers = {
            name: Trainer(tasks[name])
            for name in self.config.members
            if name in tasks
        }
        self.scorers: dict[str, Scorer] = {}
        self.history: list[Record] = []
        self.scorer: FusedScorer | None = None

    @property
    def edge_index(self) -> Tensor:
        r"""The observed interactions."""
        return self.task.edge_index

    def fit(
        self,
        progress: bool = False,
        callback: Callable[[Record], None] | None = None,
    ) -> FusedScorer:
        r"""Trains the members and chooses their weights.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable, optional): Called with each record of
                :obj:`history`. (default: :obj:`None`)
        """
        self.scorers, self.history = {}, []
        for name in self.config.members:
            start = time.perf_counter()
            scorer = self._member(name, progress)
            if scorer is not None:
                self.scorers[name] = scorer
                self._record(name, scorer, start, callback)
        start = time.perf_counter()
        self.scorer = FusedScorer.fit_weights(
            self.scorers,
            self.task.edge_label_index['val'],
            self.edge_index,
            self.config.k,
        )
        self._record('ensemble', self.scorer, start, callback)
        return self.scorer

    def _member(self, name: str, progress: bool) -> Scorer | None:
        c, task = self.config, self.task
        inputs = task.edge_index, task.num_users, task.num_items
        if name == 'walk':
            similar = {
                m: task.edge_index_dict[task.model.similar_edge_type(m)]
                for m in task.model.modalities
            }
            return RandomWalk(*inputs, item_graph_dict=similar)
        if name == 'cosine':
            return ItemCosine(*inputs)
        if name == 'ease':
            if task.num_items > c.max_ease_items:
                return None
            degree = task.edge_index.size(1) / task.num_items
            return EASE(*inputs, reg_weight=c.ease_reg_factor * degree)
        trainer = self.trainers[name]
        trainer.fit(progress)
        return EmbeddingScorer(*trainer.embeddings())

    def _record(
        self,
        name: str,
        scorer: Scorer,
        start: float,
        callback: Callable[[Record], None] | None,
    ) -> None:
        record = {
            'name': name,
            'seconds': time.perf_counter() - start,
            'val': self._metrics(scorer, 'val'),
        }
        self.history.append(record)
        if callback is not None:
            callback(record)

    def _metrics(self, scorer: Scorer, split: str) -> dict[str, float]:
        return evaluate_scorer(
            scorer,
            self.task.edge_label_index[split],
            self.edge_index,
            self.config.k,
        )

    @torch.no_grad()
    def evaluate(self, split: str = 'test') -> dict[str, float]:
        r"""Returns the metrics of the ensemble on held-out interactions."""
        check_choice('split', split, self.task.edge_label_index)
        if self.scorer is None:
            raise ValueError('the ensemble needs to be trained by fit() first')
        return self._metrics(self.scorer, split)
