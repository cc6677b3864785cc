from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import generation_metrics
from diffmm_geo.nn import CrossModalContrastiveLoss, DiffMM, ModalityDiffusion
from diffmm_geo.nn.diffusion.edge_sampling import default_num_edges
from diffmm_geo.nn.models.projection import HALF
from diffmm_geo.sparse import CSR, BipartiteAdj
from diffmm_geo.sparse.refill import refill
from diffmm_geo.tasks.denoiser_recall import (
    denoiser_recall,
    warn_below_popularity,
)
from diffmm_geo.tasks.diffmm_config import DiffMMConfig, make_diffusion
from diffmm_geo.tasks.task import OnStep, Task
from diffmm_geo.utils.checks import check_trainable, check_type
from diffmm_geo.utils.features import modality_features


class DiffMMTask(Task):
    r"""The training of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper (Section 3.4).
    An epoch consists of

    1. a pass over users that trains the denoisers,
    2. the generation of the graph of each modality,
    3. a pass over interactions that trains the model on
       :meth:`DiffMM.loss <diffmm_geo.nn.DiffMM.loss>`.

    Args:
        data, edge_type, device: As in :class:`~diffmm_geo.tasks.Task`, with
            item features :obj:`x_{m}`.
        config (DiffMMConfig, optional): The settings.
            (default: :class:`~diffmm_geo.training.DiffMMConfig` with its
            defaults)
        modalities (list[str], optional): The modalities to use. If not given,
            uses all modalities of the items. (default: :obj:`None`)
        model (DiffMM, optional): A model to train in place of the one that
            the settings describe. (default: :obj:`None`)
        diffusion (ModalityDiffusion, optional): The denoisers to train in place
            of those that the settings describe. (default: :obj:`None`)

    Attributes:
        feature_dict (dict[str, torch.Tensor]): The raw features.
        interactions (CSR): The distinct observed items of each user.
        edge_index_dict (dict): The observed and the generated graphs.
        adj_dict (dict): The same graphs, normalized and sorted.
    """

    config: DiffMMConfig
    model: DiffMM
    loss_names = ('bpr', 'reg', 'contrastive')

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
        c = DiffMMConfig() if config is None else config
        check_type('config', c, DiffMMConfig)
        super().__init__(data, c, edge_type, device)
        features = modality_features(
            data[self.edge_type[2]], self.num_items, modalities
        )
        self._check_parts(model, diffusion)
        is_new = model is None
        with self.random_state.entered():
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
                c.standardize,
            )
            self.diffusion = diffusion or make_diffusion(
                c, self.num_items, list(features)
            )
        self.model.to(self.device)
        self.diffusion.to(self.device)
        weight = self.model.item_emb.weight
        # Half precision stays what it is, and where it is, if it is a file.
        self.feature_dict = {
            m: x.to(self.device if x.dtype in HALF else weight)
            for m, x in features.items()
        }
        self.model.projections.check(self.feature_dict, self.num_items)
        if is_new:
            self.model.fit_standardization(self.feature_dict)
        if self.diffusion.takes_features and not self.diffusion.has_features:
            item = self.edge_index[1]
            with self.random_state.entered():
                self.diffusion.set_features(
                    {
                        m: self.feature_dict[m]
                        for m in self.diffusion.modalities
                    },
                    torch.bincount(item, minlength=self.num_items) > 0,
                )
        self.contrast = CrossModalContrastiveLoss(
            c.temperature, c.anchor, c.num_candidates
        )
        self.reset_optimizers()
        self._recorded_dict: dict[EdgeType, BipartiteAdj] = {}
        self._prepare({})

    def _check_parts(
        self, model: DiffMM | None, diffusion: ModalityDiffusion | None
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
            if diffusion.num_items != size[1]:
                raise ValueError(
                    f"'diffusion' needs to be one of {size[1]} items "
                    f'(got {diffusion.num_items})'
                )

    def _prepare(self, generated: dict[EdgeType, Tensor]) -> None:
        r"""Derives everything else from the data on their device."""
        self.interactions = CSR.from_edge_index(
            self.edge_index, (self.num_users, self.num_items), coalesce=True
        )
        self.adj_dict: dict[EdgeType, BipartiteAdj] = {}
        self.set_graphs(generated)

    def move_data(self, device: torch.device) -> None:
        super().move_data(device)
        self.feature_dict = {
            m: x.to(device) for m, x in self.feature_dict.items()
        }
        self._prepare({t: x.to(device) for t, x in self.generated.items()})

    @property
    def generated(self) -> dict[EdgeType, Tensor]:
        r"""The generated graphs."""
        out = dict(self.edge_index_dict)
        del out[self.edge_type]
        return out

    @property
    def data_dict(self) -> dict[str, Tensor]:
        features = self.feature_dict.items()
        return {**super().data_dict, **{f'x_{m}': x for m, x in features}}

    def reset_optimizers(self) -> None:
        c, model = self.config, self.model
        self.optimizers = {
            'model': self.adam(model.parameters(), c.lr),
            'diffusion': self.adam(self.diffusion.parameters(), c.diffusion_lr),
        }

    @property
    def loss_optimizers(self) -> list[Optimizer]:
        return [self.optimizers['model']]

    @property
    def num_denoiser_steps(self) -> int:
        r"""The number of steps of :meth:`train_denoisers`."""
        c = self.config
        return -(-self.num_users // (c.diffusion_batch_size or c.batch_size))

    @property
    def edges_per_user(self) -> int:
        r"""The number of interactions to generate for each user."""
        wanted = self.config.num_edges_per_user
        return wanted or default_num_edges(self.num_items)

    @property
    def num_epoch_steps(self) -> int:
        return self.num_denoiser_steps + self.num_batches

    def start_epoch(self, on_step: OnStep | None = None) -> dict[str, float]:
        r"""Trains the denoisers and generates the graph of each modality.

        Raises:
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        with self.phase('diffusion'):
            losses = self.train_denoisers(on_step)
        with self.phase('generate'):
            self.set_graphs(self.generate())
        return losses

    def train_denoisers(
        self,
        on_step: OnStep | None = None,
        users: Tensor | None = None,
    ) -> dict[str, float]:
        r"""Trains the denoisers, on all users or on the given ones, which is
        the first half of :meth:`start_epoch`.
        """
        c = self.config
        with self.autocast():
            with torch.no_grad():
                modality_emb = self.model.projected(self.feature_dict)
            losses = self.diffusion.train_epoch(
                self.optimizers['diffusion'],
                self._interactions_of(users),
                self.model.item_emb.weight.detach(),
                {m: modality_emb[m] for m in self.diffusion.modalities},
                c.msi_weight,
                c.diffusion_batch_size or c.batch_size,
                c.diffusion_form,
                on_step,
            )
        return {f'diffusion_{m}': loss for m, loss in losses.items()}

    def _interactions_of(self, users: Tensor | None) -> CSR:
        lists = self.interactions
        return lists if users is None else lists.take(users)

    def generate(self, users: Tensor | None = None) -> dict[EdgeType, Tensor]:
        r"""Generates edges for :meth:`set_graphs`, which is the second half of
        :meth:`start_epoch`. Given users, the denoisers generate only theirs.
        """
        c, candidates, generated = self.config, None, {}
        if (c.num_generated_from or self.num_items) < self.num_items:
            order = torch.randperm(self.num_items, device=self.device)
            candidates = order[: c.num_generated_from]
        lists = self._interactions_of(users)
        self.diffusion.place_unobserved(self.interactions)
        for m in self.model.modalities:
            with self.autocast():
                edge_index = self.diffusion.sample_edges(
                    m,
                    lists,
                    num_edges_per_user=self.edges_per_user,
                    candidates=candidates,
                    exclude_observed=c.exclude_observed,
                )
            if users is not None:
                row, item = edge_index
                edge_index = torch.stack([users[row], item])
            generated[self.model.conv.generated_edge_type(m)] = edge_index
        return generated

    def set_graphs(self, generated: dict[EdgeType, Tensor]) -> None:
        r"""Replaces the generated graphs."""
        self.edge_index_dict = {self.edge_type: self.edge_index, **generated}
        # The observed graph stays the same, and is sorted only once.
        graphs: dict[Any, Any] = {**self.edge_index_dict}
        if self.edge_type in self.adj_dict:
            graphs[self.edge_type] = self.adj_dict[self.edge_type]
        self.adj_dict = self.model.adjacency_dict(graphs)
        self._dropped_dict = self.adj_dict

    def batches(self) -> tuple[Tensor, ...]:
        r"""The batches of an epoch, after dropping entries of the generated
        graphs.
        """
        dropped = {
            edge_type: adj
            if edge_type == self.edge_type
            else adj.dropout(self.config.keep_rate)
            for edge_type, adj in self.adj_dict.items()
        }
        self._dropped_dict = self._same_place(dropped)
        return self.triples()

    def _same_place(
        self, adj_dict: dict[EdgeType, BipartiteAdj]
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""The graphs in the memory of those of the last epoch, which recorded
        steps read. Generated graphs fit if each user has the same number of
        interactions in all of them.
        """
        if not self.config.cuda_graphs:
            return adj_dict
        if not refill(self._recorded_dict, adj_dict):
            self._recorded_dict = adj_dict
            self.inputs_version += 1
        return self._recorded_dict

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        c = self.config
        return self.model.objective(
            *(self.feature_dict, self._dropped_dict, batch.unbind()),
            *(c.reg_weight, c.ssl_weight, self.contrast),
            torch.bfloat16 if c.precision == 'bf16' else None,
        )

    def metrics(self) -> dict[str, Any]:
        r"""The :func:`~diffmm_geo.evaluation.generation_metrics` on validation
        of the generated graph of each modality, as :obj:`"generated"`.
        """
        conv, graphs = self.model.conv, self.edge_index_dict
        args = self.edge_index, self.edge_label_index['val'], self.num_items
        return {
            'generated': {
                m: generation_metrics(graphs[edge_type], *args)
                for m in self.model.modalities
                if (edge_type := conv.generated_edge_type(m)) in graphs
            }
        }

    def end_fit(self) -> None:
        r"""Warns of denoisers that know less than popularity."""
        held_out, k = self.edge_label_index['val'], self.config.k
        args = self.diffusion, self.interactions, held_out, k
        recall, likelihood = denoiser_recall(*args), self.diffusion.likelihood
        warn_below_popularity(recall, k, likelihood)

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        out, _ = self.model.embed(self.feature_dict, self.adj_dict)
        return out[self.edge_type[0]], out[self.edge_type[2]]

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            'diffusion': self.diffusion.state_dict(),
            'edge_index_dict': self.edge_index_dict,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.diffusion.load_state_dict(state['diffusion'])
        self.set_graphs(state['edge_index_dict'])
