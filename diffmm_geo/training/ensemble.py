from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import evaluate
from diffmm_geo.scorers import (
    EASE,
    EmbeddingScorer,
    FeatureCosine,
    FusedScorer,
    Popularity,
    RandomWalk,
    Scorer,
    TwoStageScorer,
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

#: The members of an :class:`Ensemble`. Those without training come first.
MEMBERS = ('popularity', 'features', 'walk', 'ease', 'denoiser', 'graph')
#: Members that know too little to retrieve candidates.
ONLY_RANKING = ('popularity', 'features')
#: The exponents of several popularities; see :class:`Popularity`. A weighted
#: sum of them approximates other ways to weigh users by their activity.
USER_EXPONENTS = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    r"""The settings of an :class:`Ensemble`.

    Args:
        members (list[str], optional): The members, some of
            :obj:`"popularity"`, :obj:`"features"`, :obj:`"walk"`,
            :obj:`"ease"`, :obj:`"denoiser"` and :obj:`"graph"`.
            (default: all)
        denoiser (DenoiserConfig, optional): The settings of
            :obj:`"denoiser"`.
            (default: :class:`~diffmm_geo.training.DenoiserConfig` with its
            defaults)
        graph (ItemGraphConfig, optional): The settings of :obj:`"graph"`.
            (default: :class:`~diffmm_geo.training.ItemGraphConfig` with its
            defaults)
        ease_reg_factor (float, optional): The regularization of
            :class:`~diffmm_geo.scorers.EASE`, as a multiple of the mean number
            of interactions of an item. (default: :obj:`10.0`)
        max_ease_items (int, optional): The maximum number of items for
            :obj:`"ease"`. With more items, the ensemble leaves it out.
            (default: :obj:`12000`)
        num_candidates (int, optional): The number of candidates of each user
            that the weighted sum ranks. (default: :obj:`200`)
        k (int, optional): The length of the ranking in evaluation. It replaces
            :obj:`k` in :obj:`denoiser` and :obj:`graph`. (default: :obj:`20`)
    """

    members: tuple[str, ...] = MEMBERS
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    graph: ItemGraphConfig = field(default_factory=ItemGraphConfig)
    ease_reg_factor: float = 10.0
    max_ease_items: int = 12_000
    num_candidates: int = 200
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
        check_int('num_candidates', self.num_candidates)
        check_int('k', self.k)


class Ensemble:
    r"""A weighted sum of recommenders that err differently. It is not DiffMM,
    but consists of parts of this library:

    - :obj:`"popularity"`: a :class:`~diffmm_geo.scorers.Popularity` for each of
      several user exponents,
    - :obj:`"features"`: a :class:`~diffmm_geo.scorers.FeatureCosine` for each
      modality,
    - :obj:`"walk"`: a :class:`~diffmm_geo.scorers.RandomWalk` over interactions
      and graphs of similar items,
    - :obj:`"ease"`: an :class:`~diffmm_geo.scorers.EASE`,
    - :obj:`"denoiser"`: a masked diffusion over interactions; see
      :class:`~diffmm_geo.tasks.DenoiserTask`,
    - :obj:`"graph"`: an :class:`~diffmm_geo.nn.ItemGraphLightGCN`.

    The plain sum of the last four retrieves candidates. A weighted sum of all
    members ranks these candidates.
    :meth:`~diffmm_geo.scorers.FusedScorer.fit_weights` learns the weights from
    validation interactions. The walk is strongest on sparse data, and the
    linear autoencoder and the denoiser are strongest on dense data.

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
        scorers (dict[str, Scorer]): The scorers of all members, after
            :meth:`fit`.
        scorer (TwoStageScorer): The retrieval and the weighted sum, after
            :meth:`fit`.
        history (list[dict]): A record of each scorer and of the whole
            :obj:`"ensemble"`: its :obj:`"name"`, its :obj:`"seconds"`, and its
            validation metrics :obj:`"val"`.

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
        >>> config = EnsembleConfig(members=('walk', 'features'), k=3)
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
        # Checks the data and holds them for all members.
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
        self.scorer: TwoStageScorer | None = None

    @property
    def weights(self) -> dict[str, float]:
        r"""The learned weight of each scorer, after :meth:`fit`."""
        ranker = self._trained().ranker
        assert isinstance(ranker, FusedScorer)
        return ranker.weights

    @property
    def edge_index(self) -> Tensor:
        r"""The observed interactions."""
        return self.task.edge_index

    def fit(
        self,
        progress: bool = False,
        callback: Callable[[Record], None] | None = None,
    ) -> TwoStageScorer:
        r"""Trains the members and learns their weights. Returns :obj:`scorer`.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable, optional): Called with each record of
                :obj:`history`. (default: :obj:`None`)
        """
        self.scorers, self.history = {}, []
        for member in self.config.members:
            for name, make in self._scorers(member, progress).items():
                start = time.perf_counter()
                self.scorers[name] = make()
                self._record(name, self.scorers[name], start, callback)
        start = time.perf_counter()
        self.scorer = self._fuse()
        self._record('ensemble', self.scorer, start, callback)
        return self.scorer

    def _fuse(self) -> TwoStageScorer:
        num_candidates = self.config.num_candidates
        found = {
            name: scorer
            for name, scorer in self.scorers.items()
            if name.split(':')[0] not in ONLY_RANKING
        } or self.scorers
        retriever = FusedScorer(found, dict.fromkeys(found, 1.0))
        ranker = FusedScorer.fit_weights(
            self.scorers,
            self.task.edge_label_index['val'],
            self.edge_index,
            retriever,
            num_candidates,
        )
        return TwoStageScorer(
            retriever, ranker, self.edge_index, num_candidates
        )

    def _scorers(
        self, member: str, progress: bool
    ) -> dict[str, Callable[[], Scorer]]:
        r"""The functions that make a member's scorers, by name."""
        c, task = self.config, self.task
        inputs = task.edge_index, task.num_users, task.num_items
        if member == 'popularity':
            return {
                f'popularity:{a}': partial(Popularity, *inputs, a)
                for a in USER_EXPONENTS
            }
        if member == 'features':
            return {
                f'features:{m}': partial(
                    FeatureCosine, task.edge_index, x, task.num_users
                )
                for m, x in task.feature_dict.items()
            }
        if member == 'walk':
            similar = {
                m: task.edge_index_dict[task.model.similar_edge_type(m)]
                for m in task.model.modalities
            }
            return {
                'walk': partial(RandomWalk, *inputs, item_graph_dict=similar)
            }
        if member == 'ease':
            if task.num_items > c.max_ease_items:
                return {}
            degree = task.edge_index.size(1) / task.num_items
            reg_weight = c.ease_reg_factor * degree
            return {'ease': partial(EASE, *inputs, reg_weight=reg_weight)}
        return {member: partial(self._train, member, progress)}

    def _train(self, member: str, progress: bool) -> Scorer:
        trainer = self.trainers[member]
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
        return evaluate(
            scorer,
            self.task.edge_label_index[split],
            self.edge_index,
            self.config.k,
        )

    @torch.no_grad()
    def evaluate(self, split: str = 'test') -> dict[str, float]:
        r"""Returns the metrics of the ensemble on held-out interactions."""
        check_choice('split', split, self.task.edge_label_index)
        return self._metrics(self._trained(), split)

    def _trained(self) -> TwoStageScorer:
        if self.scorer is None:
            raise ValueError('the ensemble needs to be trained by fit() first')
        return self.scorer
