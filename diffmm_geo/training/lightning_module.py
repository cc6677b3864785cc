r"""DiffMM for those who train with `Lightning
<https://lightning.ai/docs/pytorch>`_; needs the extra :obj:`lightning`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import DiffMM, ModalityDiffusion
from diffmm_geo.ops.bipartite_adj import BipartiteAdj
from diffmm_geo.training.diffmm_trainer import DiffMMConfig, DiffMMTrainer
from diffmm_geo.training.random_state import random_state, set_random_state
from diffmm_geo.utils.finite import FiniteLosses, NonFiniteLossError
from diffmm_geo.utils.memory import kept_memory

try:
    from lightning.pytorch import LightningModule
except ImportError:
    try:
        from pytorch_lightning import LightningModule
    except ImportError as error:
        raise ImportError(
            'DiffMMLightning needs the package lightning (or '
            "pytorch_lightning): pip install 'diffmm_geo[lightning]'"
        ) from error

# What a checkpoint holds of this module beside its weights.
KEY = 'diffmm_geo'


class DiffMMLightning(LightningModule):
    r"""DiffMM as a :class:`~lightning.pytorch.LightningModule` that brings
    its data along, for one's own :class:`~lightning.pytorch.Trainer`. It
    trains as :class:`~diffmm_geo.training.DiffMMTrainer` does: each epoch
    begins with the training of the denoisers and the generation of graphs,
    and its batches are (user, positive, negative) triples.

    .. code-block:: python

        module = DiffMMLightning(data, DiffMMConfig(reg_weight=1e-6))
        trainer = lightning.pytorch.Trainer(
            max_epochs=1000,
            callbacks=[
                EarlyStopping('val/recall@20', mode='max', patience=20),
                ModelCheckpoint(monitor='val/recall@20', mode='max'),
            ],
        )
        trainer.fit(module)
        trainer.test(ckpt_path='best')  # On `test_edge_label_index`.

    Logged are the mean losses of each epoch, *e.g.*, :obj:`loss/bpr` and
    :obj:`loss/diffusion_image`, and the metrics :obj:`val/recall@20` and
    :obj:`test/recall@20` to :obj:`val/mrr@20`.

    Checkpoints hold the generated graphs, the optimiser of the denoisers and
    the state of random numbers, so that :obj:`trainer.fit(module,
    ckpt_path=...)` goes on, from the end of an epoch on CPU, exactly as if
    the run had not been stopped. They hold no data:
    :obj:`DiffMMLightning.load_from_checkpoint(path, data=data)`.

    Args:
        data (HeteroData): The user-item graph with item features
            :obj:`x_{m}`; see :class:`~diffmm_geo.training.Trainer`.
        config (DiffMMConfig or dict, optional): The settings. The length and
            the end of training are up to Lightning: :obj:`num_epochs` and
            :obj:`patience` are not read.
            (default: :class:`~diffmm_geo.training.DiffMMConfig` with its
            defaults)
        modalities (list[str], optional): The modalities to use, all that the
            items have if not given. (default: :obj:`None`)
        model (DiffMM, optional): A model to train in place of the one that
            the settings describe. (default: :obj:`None`)
        diffusion (ModalityDiffusion, optional): Its denoisers, likewise.
            (default: :obj:`None`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the data do not fit, as in
            :class:`~diffmm_geo.training.DiffMMTrainer`. In training, if
            Lightning is asked for more than one process, or for a precision,
            which is a setting of :class:`~diffmm_geo.training.DiffMMConfig`.
        NonFiniteLossError: In training, if a loss is infinite or not a
            number.
    """

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | Mapping[str, Any] | None = None,
        modalities: Sequence[str] | None = None,
        model: DiffMM | None = None,
        diffusion: ModalityDiffusion | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
    ) -> None:
        super().__init__()
        if not isinstance(config, DiffMMConfig):
            config = DiffMMConfig(**(config or {}))
        if config.cuda_graphs:
            raise ValueError(
                "'cuda_graphs' needs DiffMMTrainer: Lightning takes the steps "
                'here (got True)'
            )
        self._data = data
        self._parts = self._build(
            torch.device('cpu'), config, modalities, model, diffusion, edge_type
        )
        self.config = config
        self.model = self._parts.model
        self.diffusion = self._parts.diffusion
        self._adj_dict: dict[EdgeType, BipartiteAdj] | None = None
        self._finite = FiniteLosses(self._parts.terms)
        self._resumed: dict[str, Any] | None = None
        # Plain values, which a checkpoint may be read with safely.
        self.save_hyperparameters(
            {
                'config': asdict(config),
                'modalities': list(self.model.modalities),
                'edge_type': tuple(edge_type),
            }
        )

    def _build(
        self,
        device: torch.device,
        config: DiffMMConfig,
        modalities: Sequence[str] | None,
        model: DiffMM | None,
        diffusion: ModalityDiffusion | None,
        edge_type: EdgeType,
    ) -> DiffMMTrainer:
        return DiffMMTrainer(
            self._data, config, modalities, model, diffusion, edge_type, device
        )

    @property
    def parts(self) -> DiffMMTrainer:
        r"""What :class:`~diffmm_geo.training.DiffMMTrainer` makes of the data
        (:obj:`feature_dict`, :obj:`edge_index_dict`, :obj:`embeddings()`,
        ...), on the device that this module is on.
        """
        if self._parts.device != self.device:
            graphs = self._parts.edge_index_dict
            state = random_state(self.device)
            self._parts = self._build(
                self.device,
                self.config,
                self.model.modalities,
                self.model,
                self.diffusion,
                self.model.edge_type,
            )
            set_random_state(self.device, state)
            self._set_generated(graphs)
        return self._parts

    def _set_generated(self, graphs: Mapping[EdgeType, Tensor]) -> None:
        parts = self._parts
        generated = {
            edge_type: edge_index.to(parts.device)
            for edge_type, edge_index in graphs.items()
            if edge_type != parts.edge_type
        }
        parts._set_graphs({parts.edge_type: parts.edge_index, **generated})

    def train_dataloader(self) -> _Triples:
        r"""The (user, positive, negative) triples, drawn anew with each
        epoch.
        """
        return _Triples(self)

    def val_dataloader(self) -> _Once:
        r"""All of the validation interactions at once."""
        return _Once(self._parts.edge_label_index['val'])

    def test_dataloader(self) -> _Once:
        r"""All of the test interactions at once."""
        if 'test' not in self._parts.edge_label_index:
            raise ValueError(
                f"'data' needs 'test_edge_label_index' for "
                f'{self._parts.edge_type} to test (got none)'
            )
        return _Once(self._parts.edge_label_index['test'])

    def configure_optimizers(self) -> Optimizer:
        r"""Adam for all but the denoisers, which have their own."""
        return self._parts.adam(self.model.parameters(), self.config.lr)

    def on_fit_start(self) -> None:
        r"""Refuses what it cannot do, and goes on from a checkpoint."""
        if self.trainer.world_size > 1:
            raise ValueError(
                f"Lightning's 'devices' needs to be 1, as the denoisers are "
                f'trained on all users (got {self.trainer.world_size})'
            )
        if self.trainer.precision != '32-true':
            raise ValueError(
                f"Lightning's 'precision' needs to be '32-true'; "
                f"DiffMMConfig(precision='bf16') is for large products alone "
                f'(got {self.trainer.precision!r})'
            )
        parts = self.parts
        parts.diffusion_optimizer = parts.adam(
            self.diffusion.parameters(), self.config.diffusion_lr
        )
        resumed, self._resumed = self._resumed, None
        if resumed is not None and self.trainer.ckpt_path is not None:
            parts.diffusion_optimizer.load_state_dict(
                resumed['diffusion_optimizer']
            )
            set_random_state(self.device, resumed['random'])

    def on_train_epoch_start(self) -> None:
        r"""Trains the denoisers and generates graphs."""
        parts = self.parts
        self._finite = FiniteLosses(parts.terms)
        on_cpu = self.device.type == 'cpu'
        with self._epoch_in_errors():
            with kept_memory() if on_cpu else nullcontext():
                losses = parts.generate_graphs()
        self.model.train()
        self._adj_dict = parts.dropped_graphs()
        self._log('loss', losses, 1)

    def training_step(
        self,
        batch: tuple[Tensor, Tensor, Tensor],
        batch_idx: int,
    ) -> Tensor:
        r"""The loss of a batch of triples."""
        if self._adj_dict is None:  # Resumed within an epoch.
            self._adj_dict = self.parts.dropped_graphs()
        user, positive, negative = batch
        terms = self.parts._loss(self._adj_dict, user, positive, negative)
        with self._epoch_in_errors():
            self._finite.add(batch_idx + 1, terms.detach())
        losses = dict(zip(self.parts.terms, terms.detach()))
        self._log('loss', losses, user.numel())
        return terms.sum()

    def on_train_epoch_end(self) -> None:
        r"""Looks for losses that are not finite."""
        with self._epoch_in_errors():
            self._finite.check()

    @contextmanager
    def _epoch_in_errors(self) -> Iterator[None]:
        try:
            yield
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                error.term, error.value, error.step, self.current_epoch + 1
            ) from error

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        r"""The metrics on held-out interactions :obj:`[2, num_edges]`."""
        self._evaluate('val', batch)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        r"""The metrics on held-out interactions :obj:`[2, num_edges]`."""
        self._evaluate('test', batch)

    def _evaluate(self, split: str, edge_label_index: Tensor) -> None:
        parts = self.parts
        # What is made lazily of the graphs here is used in training as well.
        with torch.inference_mode(False):
            user, item = parts.embeddings()
            metrics = evaluate(
                user, item, edge_label_index, parts.edge_index, self.config.k
            )
        self._log(split, metrics, 1)

    def _log(
        self,
        group: str,
        values: Mapping[str, float | Tensor],
        batch_size: int,
    ) -> None:
        self.log_dict(
            {f'{group}/{name}': value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=batch_size,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        r"""Adds what training goes on from."""
        parts = self.parts
        checkpoint[KEY] = {
            'generated': {
                edge_type: edge_index
                for edge_type, edge_index in parts.edge_index_dict.items()
                if edge_type != parts.edge_type
            },
            'diffusion_optimizer': parts.diffusion_optimizer.state_dict(),
            'random': random_state(self.device),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        r"""Takes over the generated graphs."""
        if KEY not in checkpoint:
            raise ValueError(
                f"'checkpoint' needs to be one of {type(self).__name__} "
                f'(got one with {list(checkpoint)})'
            )
        self._resumed = checkpoint[KEY]
        self._set_generated(checkpoint[KEY]['generated'])


class _Triples:
    def __init__(self, module: DiffMMLightning) -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.parts.num_batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # Drawn as late as possible, after the graphs of the epoch.
        for batch in self.module.parts.triples():
            yield tuple(batch.unbind())


class _Once:
    def __init__(self, batch: Tensor) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Tensor]:
        yield self.batch
