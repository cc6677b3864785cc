from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, SparseAdam
from torch_geometric.data import HeteroData
from torch_geometric.nn.models.lightgcn import BPRLoss
from torch_geometric.typing import EdgeType, NodeType

from diffmm_geo.nn import (
    CrossModalContrastiveLoss,
    DiffMM,
    GaussianDiffusion,
    ModalityDiffusion,
)
from diffmm_geo.nn.diffusion.forms import FORMS
from diffmm_geo.nn.models.projection import HALF
from diffmm_geo.ops.bipartite_adj import BipartiteAdj
from diffmm_geo.training.config import TrainingConfig
from diffmm_geo.training.generators import GENERATORS
from diffmm_geo.training.neighbor_batches import (
    NeighborBatch,
    NeighborBatches,
    check_sampler,
)
from diffmm_geo.training.seed_probability import SeedProbability
from diffmm_geo.training.trainer import Trainer
from diffmm_geo.utils.checks import (
    check_choice,
    check_int,
    check_number,
    check_trainable,
    check_type,
)
from diffmm_geo.utils.features import modality_features

#: What a step propagates over, see :class:`DiffMMConfig`.
BATCHINGS = ('full', 'neighbor')


@dataclass(frozen=True, kw_only=True)
class DiffMMConfig(TrainingConfig):
    r"""The settings of :class:`DiffMMTrainer`; see
    :class:`~diffmm_geo.nn.DiffMM`,
    :class:`~diffmm_geo.nn.GaussianDiffusion`,
    :class:`~diffmm_geo.nn.Denoiser` and
    :class:`~diffmm_geo.nn.CrossModalContrastiveLoss` for those they hand on.

    Args:
        diffusion_lr (float, optional): The learning rate of the denoisers.
            (default: :obj:`1e-3`)
        ssl_weight (float, optional): The weight of the contrastive loss.
            (default: :obj:`1e-2`)
        temperature (float, optional): Its temperature. (default: :obj:`0.5`)
        anchor (str, optional): Its anchor. (default: :obj:`"main"`)
        keep_rate (float, optional): The probability to keep an entry of a
            generated graph in training. (default: :obj:`0.5`)
        msi_weight (float, optional): The weight of the MSI term.
            (default: :obj:`0.1`)
        num_edges_per_user (int, optional): The number of interactions to
            generate for each user and modality. (default: :obj:`1`)
        diffusion_form (str, optional): How the denoisers' products with all
            items are trained; see
            :meth:`~diffmm_geo.nn.ModalityDiffusion.batch_loss`.
            (default: :obj:`"auto"`)
        diffusion_batch_size (int, optional): The number of users a step of
            the diffusion phase, :obj:`batch_size` if not given. A step
            updates all rows of the denoisers, so that of many items it is
            the number of steps that costs. (default: :obj:`None`)
        num_candidates (int, optional): The number of candidates of the
            contrastive loss that is drawn in each step, all nodes if not
            given. (default: :obj:`None`)
        num_generated_from (int, optional): The number of items, drawn in
            each epoch, that the diffusion generates interactions from, all
            if not given. (default: :obj:`None`)
        generator (str, optional): Where the graphs of modalities come from:
            :obj:`"diffusion"`, or, to compare with,
            :obj:`"random"`, as many interactions drawn uniformly in each
            epoch, or :obj:`"observed"`, the observed interactions
            themselves. Neither of these trains denoisers.
            (default: :obj:`"diffusion"`)
        batching (str, optional): What a step of recommendation propagates
            over: :obj:`"full"`, all of the graphs, or :obj:`"neighbor"`, the
            subgraph that is sampled around a batch, with sparse updates of ID
            embeddings; see :class:`DiffMMTrainer`. (default: :obj:`"full"`)
        num_neighbors (list[int], optional): The number of edges to sample of
            each node and graph by hop, all for :obj:`-1`, where batching is
            :obj:`"neighbor"`; the model takes :obj:`num_layers + 2` hops.
            (default: :obj:`(20, 10, 5)`)
    """

    diffusion_lr: float = 1e-3
    ssl_weight: float = 1e-2
    temperature: float = 0.5
    anchor: str = 'main'
    keep_rate: float = 0.5
    msi_weight: float = 0.1
    num_edges_per_user: int = 1
    diffusion_form: str = 'auto'
    diffusion_batch_size: int | None = None
    num_candidates: int | None = None
    num_generated_from: int | None = None
    generator: str = 'diffusion'
    batching: str = 'full'
    num_neighbors: Sequence[int] = (20, 10, 5)
    embedding_dim: int = 64
    num_layers: int = 1
    generated_weight: float = 0.2
    residual_weight: float = 0.5
    projection: str = 'linear'
    num_steps: int = 5
    noise_scale: float = 0.1
    noise_min: float = 1e-4
    noise_max: float = 0.02
    hidden_channels: int | Sequence[int] = 1000
    time_channels: int = 10
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number('diffusion_lr', self.diffusion_lr, 0.0, low_open=True)
        check_number('ssl_weight', self.ssl_weight, 0.0)
        check_number('keep_rate', self.keep_rate, 0.0, 1.0, low_open=True)
        check_number('msi_weight', self.msi_weight, 0.0)
        check_int('num_edges_per_user', self.num_edges_per_user)
        check_choice('diffusion_form', self.diffusion_form, FORMS)
        check_choice('generator', self.generator, GENERATORS)
        for name in (
            'diffusion_batch_size',
            'num_candidates',
            'num_generated_from',
        ):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name))
        check_choice('batching', self.batching, BATCHINGS)
        if not isinstance(self.num_neighbors, Sequence) or isinstance(
            self.num_neighbors, str
        ):
            raise ValueError(
                f"'num_neighbors' needs to be a list of integers (got "
                f'{self.num_neighbors!r})'
            )
        for number in self.num_neighbors:
            if number != -1:
                check_int('num_neighbors', number)
        if self.batching == 'neighbor' and self.cuda_graphs:
            raise ValueError(
                "'cuda_graphs' needs batching='full', whose steps are all of "
                "one size (got batching='neighbor')"
            )


class DiffMMTrainer(Trainer):
    r"""The training of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper (Section 3.4).
    An epoch is

    1. a pass over users that trains the denoisers,
    2. the generation of the graph of every modality,
    3. a pass over interactions that trains the model on

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \lambda_1 \left(
        {\| \mathbf{E}_u \|}^2 + {\| \mathbf{E}_i \|}^2 \right) + \lambda_2
        \left( \mathcal{L}_{\mathrm{cl}}^{\mathrm{user}} +
        \mathcal{L}_{\mathrm{cl}}^{\mathrm{item}} \right).

    With :obj:`batching="neighbor"`, a step takes as much memory and time as
    the subgraph that is sampled around its triples, however many nodes there
    are, and estimates the step over the whole graph:

    * Sampled edges stand for those left out; see
      :class:`~diffmm_geo.training.NeighborBatches`.
    * The contrastive loss has the nodes of the triples as candidates, each
      weighted by one over its probability to be among them (log-Q
      correction); see
      :class:`~diffmm_geo.training.SeedProbability`.
    * The regulariser is that of the ID embeddings in the subgraph: its
      gradient is that of all, at these rows.
    * Entries of generated graphs are dropped in each step, not each epoch.
    * ID embeddings have sparse gradients, and
      :class:`torch.optim.SparseAdam`, which leaves all other rows, and their
      moments, as they are.

    Generation and evaluation take the whole graph.

    Args:
        data (HeteroData): The user-item graph with item features
            :obj:`x_{m}`; see :class:`~diffmm_geo.training.Trainer`.
        config (DiffMMConfig, optional): The settings.
            (default: :class:`DiffMMConfig` with its defaults)
        modalities (list[str], optional): The modalities to use, all that the
            items have if not given. (default: :obj:`None`)
        model (DiffMM, optional): A model to train in place of the one that
            the settings describe. (default: :obj:`None`)
        diffusion (ModalityDiffusion, optional): Its denoisers, likewise.
            (default: :obj:`None`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> data['item'].x_image = torch.randn(6, 16)
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
        >>> store.val_edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> config = DiffMMConfig(num_epochs=2, hidden_channels=8, k=3)
        >>> trainer = DiffMMTrainer(data, config)
        >>> [record['epoch'] for record in trainer.fit()]
        [1, 2]
        >>> sorted(trainer.best_val['loss'])
        ['bpr', 'contrastive', 'diffusion_image', 'reg']
    """

    config: DiffMMConfig
    model: DiffMM
    terms = ('bpr', 'reg', 'contrastive')

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | None = None,
        modalities: Sequence[str] | None = None,
        model: DiffMM | None = None,
        diffusion: ModalityDiffusion | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = DiffMMConfig.of(config)
        super().__init__(data, c, edge_type, device)
        features = modality_features(
            data[self.edge_type[2]], self.num_items, modalities
        )
        self._check_parts(model, diffusion)
        self.model = model or DiffMM(
            self.num_users,
            self.num_items,
            {m: x.size(1) for m, x in features.items()},
            c.embedding_dim,
            c.num_layers,
            c.generated_weight,
            c.residual_weight,
            c.projection,
            self.edge_type,
        )
        self.diffusion = diffusion or ModalityDiffusion(
            self.num_items,
            list(features),
            GaussianDiffusion(
                c.num_steps, c.noise_scale, c.noise_min, c.noise_max
            ),
            hidden_channels=c.hidden_channels,
            time_channels=c.time_channels,
            dropout=c.dropout,
        )
        self.model.to(self.device)
        self.diffusion.to(self.device)
        self.feature_dict = {m: self._features(x) for m, x in features.items()}

        tables = []
        if c.batching == 'neighbor':
            check_sampler()
            if len(c.num_neighbors) < self.model.num_layers + 2:
                raise ValueError(
                    f"'num_neighbors' needs num_layers + 2 = "
                    f'{self.model.num_layers + 2} hops at least (got '
                    f'{c.num_neighbors})'
                )
            tables = [self.model.user_emb.weight, self.model.item_emb.weight]
            self._seed_probability = SeedProbability(
                self._positives, self.edge_index, *self.model.size
            )
        self.table_optimizer = SparseAdam(tables, c.lr) if tables else None
        self.optimizer = self.adam(
            (
                p
                for p in self.model.parameters()
                if all(p is not table for table in tables)
            ),
            c.lr,
        )
        self.diffusion_optimizer = self.adam(
            self.diffusion.parameters(), c.diffusion_lr
        )
        self.bpr_loss = BPRLoss()
        self.contrastive_loss = CrossModalContrastiveLoss(
            c.temperature, c.anchor, c.num_candidates
        )
        self._generator = GENERATORS[c.generator](self)
        self.edge_index_dict: dict[EdgeType, Tensor] = {
            self.edge_type: self.edge_index
        }
        self._adj_dict: dict[EdgeType, BipartiteAdj] = {}
        self._set_graphs(self.edge_index_dict)

    def _check_parts(
        self,
        model: DiffMM | None,
        diffusion: ModalityDiffusion | None,
    ) -> None:
        size = self.num_users, self.num_items
        if model is not None:
            check_type('model', model, DiffMM)
            check_trainable('model', model)
            if model.size != size:
                raise ValueError(
                    f"'model' needs to be one of {size[0]} users and "
                    f'{size[1]} items (got {model.size})'
                )
        if diffusion is not None:
            check_type('diffusion', diffusion, ModalityDiffusion)
            check_trainable('diffusion', diffusion)
            if diffusion.num_items != self.num_items:
                raise ValueError(
                    f"'diffusion' needs to be one of {self.num_items} items "
                    f'(got {diffusion.num_items})'
                )

    def _features(self, x: Tensor) -> Tensor:
        # Half precision stays what it is, and where it is, if it is a file.
        if x.dtype in HALF:
            return x.to(self.device)
        return x.to(self.model.item_emb.weight)

    @property
    def num_steps(self) -> int:
        return self._generator.num_steps + super().num_steps

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        out = {**super().optimizers, 'diffusion': self.diffusion_optimizer}
        if self.table_optimizer is not None:
            out['tables'] = self.table_optimizer
        return out

    @property
    def data_dict(self) -> dict[str, Tensor]:
        features = {f'x_{m}': x for m, x in self.feature_dict.items()}
        return {**super().data_dict, **features}

    def train_epoch(self) -> dict[str, float]:
        losses = self.generate_graphs()
        self.model.train()
        with self.phase('recommend'):
            if self.table_optimizer is not None:
                terms = self._train_on_subgraphs(self.table_optimizer)
            else:
                adj_dict = self.dropped_graphs()
                terms = self.train_on_triples(
                    self.optimizer, partial(self._loss, adj_dict), self.terms
                )
        return {**losses, **terms}

    def neighbor_batches(self) -> Iterator[NeighborBatch]:
        r"""The batches of :meth:`~diffmm_geo.training.Trainer.triples`, each
        with the subgraph that is sampled around it, and entries of generated
        graphs dropped.
        """
        num_layers = self.model.num_layers
        batches = NeighborBatches(
            self._adj_dict,
            self.edge_type,
            self.config.num_neighbors[: num_layers + 2],
            num_layers,
        )
        for batch in batches.sample(self.triples(), self._seed_probability):
            yield replace(batch, adj_dict=self.dropped(batch.adj_dict))

    def _train_on_subgraphs(
        self, table_optimizer: Optimizer
    ) -> dict[str, float]:
        optimizers = [self.optimizer, table_optimizer]

        def step(batch: NeighborBatch) -> Tensor:
            user, positive, negative = batch.triples
            terms = self._loss(
                batch.adj_dict,
                user,
                positive,
                negative,
                batch.n_id_dict,
                batch.sample_dict,
            )
            return self._step(optimizers, terms)

        steps = ((step(b), b.triples.size(1)) for b in self.neighbor_batches())
        losses = self._mean_losses(steps, self.terms)
        for optimizer in optimizers:
            optimizer.zero_grad()
        return losses

    def generate_graphs(self) -> dict[str, float]:
        r"""The first two phases of an epoch: trains the denoisers, generates
        the graphs of modalities anew, and returns the mean losses of the
        former.
        """
        with self.phase('diffusion'), self.autocast():
            losses = self._generator.train_epoch()
        with self.phase('generate'):
            with self.autocast():
                generated = self._generator.edges()
            self._set_graphs(
                {
                    self.edge_type: self.edge_index,
                    **{
                        self.model.conv.generated_edge_type(m): edge_index
                        for m, edge_index in generated.items()
                    },
                }
            )
        return {f'diffusion_{m}': loss for m, loss in losses.items()}

    def dropped_graphs(self) -> dict[EdgeType, BipartiteAdj]:
        r"""The graphs of an epoch, with entries of those that are generated
        dropped.
        """
        return self.dropped(self._adj_dict)

    def dropped(
        self,
        adj_dict: dict[EdgeType, BipartiteAdj],
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""Drops entries of graphs that are generated."""
        return {
            edge_type: adj
            if edge_type == self.edge_type
            else adj.dropout(self.config.keep_rate)
            for edge_type, adj in adj_dict.items()
        }

    def _set_graphs(self, edge_index_dict: dict[EdgeType, Tensor]) -> None:
        self.edge_index_dict = edge_index_dict
        # The observed graph stays the same, and is sorted only once.
        graphs: dict[Any, Any] = {**edge_index_dict}
        if self.edge_type in self._adj_dict:
            graphs[self.edge_type] = self._adj_dict[self.edge_type]
        self._adj_dict = self.model.adjacency_dict(graphs)

    def _loss(
        self,
        adj_dict: dict[EdgeType, BipartiteAdj],
        user: Tensor,
        positive: Tensor,
        negative: Tensor,
        n_id_dict: dict[NodeType, Tensor] | None = None,
        sample_dict: dict[NodeType, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        r"""The terms of the loss of triples, over the graphs or a part."""
        c, (user_type, _, item_type) = self.config, self.edge_type
        features = self.feature_dict
        if n_id_dict is not None:
            n_id = n_id_dict[item_type]
            features = {m: x[n_id] for m, x in features.items()}
        reg = c.reg_weight * self.model.reg_loss(n_id_dict)
        contrastive = torch.zeros_like(reg)
        if c.ssl_weight > 0:
            out, views = self.model.forward_with_views(
                features, adj_dict, n_id_dict
            )
            with self.autocast():
                for t, index in ((user_type, user), (item_type, positive)):
                    contrastive = contrastive + self.contrastive_loss.contrast(
                        [view[t] for view in views.values()],
                        index,
                        out[t],
                        None if sample_dict is None else sample_dict[t],
                    )
        else:
            out = self.model(features, adj_dict, n_id_dict)

        x_user, x_item = out[user_type][user], out[item_type]
        bpr = self.bpr_loss(
            (x_user * x_item[positive]).sum(dim=-1),
            (x_user * x_item[negative]).sum(dim=-1),
        )
        return torch.stack([bpr, reg, c.ssl_weight * contrastive])

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        out = self.model(self.feature_dict, self._adj_dict)
        return out[self.edge_type[0]], out[self.edge_type[2]]

    def state_dict(self) -> dict[str, Any]:
        return {
            'model': self.model.state_dict(),
            'diffusion': self.diffusion.state_dict(),
            'edge_index_dict': self.edge_index_dict,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.model.load_state_dict(state_dict['model'])
        self.diffusion.load_state_dict(state_dict['diffusion'])
        self._set_graphs(state_dict['edge_index_dict'])
