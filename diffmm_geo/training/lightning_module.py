r"""DiffMM for training with `Lightning <https://lightning.ai/docs/pytorch>`_;
needs the extra :obj:`lightning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import mean_metrics
from diffmm_geo.nn import DiffMM, ModalityDiffusion
from diffmm_geo.recommender import Recommender
from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.utils.checks import check_equal
from diffmm_geo.utils.finite import FiniteLosses, errors_of_epoch

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

# Where a checkpoint holds what is no weight.
KEY = 'diffmm_geo'


class DiffMMLightning(LightningModule):
    r"""A :class:`~diffmm_geo.tasks.DiffMMTask` as a
    :class:`~lightning.pytorch.LightningModule`. It trains as
    :class:`~diffmm_geo.training.DiffMMTrainer` does, on its own data loaders:
    :obj:`trainer.fit(module)`, :obj:`trainer.test(module)` and
    :obj:`trainer.predict(module)`, which returns the top-k items of all users
    in batches.

    It logs mean losses such as :obj:`loss/diffusion_image`, and metrics such as
    :obj:`val/recall@20`. Checkpoints hold all that
    :obj:`trainer.fit(module, ckpt_path=...)` needs to resume from the end of an
    epoch (on CPU, exactly). They do not hold the data, so pass it again:
    :obj:`DiffMMLightning.load_from_checkpoint(path, data=data)`.

    Args:
        data, modalities, model, diffusion, edge_type: As in
            :class:`~diffmm_geo.tasks.DiffMMTask`.
        config (DiffMMConfig or dict, optional): The settings. Lightning ignores
            :obj:`num_epochs`, :obj:`patience`, :obj:`metric` and
            :obj:`eval_every`, and decides itself when to evaluate and stop.
            (default: :obj:`DiffMMConfig()`)

    Raises:
        ValueError: If the data or settings do not fit, or, in training, if
            Lightning is asked for several processes or another precision.
        NonFiniteLossError: In training, if a loss is infinite or NaN.
    """

    def __init__(
        self,
        data: HeteroData,
        config: DiffMMConfig | Mapping[str, Any] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not isinstance(config, DiffMMConfig):
            config = DiffMMConfig(**(config or {}))
        reason = 'Lightning takes the steps, with one optimizer'
        check_equal('cuda_graphs', config.cuda_graphs, False, reason)
        self.config = config
        self.task = DiffMMTask(data, config, *args, **kwargs)
        # `DistributedDataParallel` reads this. Denoisers are trained apart.
        self._ddp_params_and_buffers_to_ignore = [
            f'task.diffusion.{name}' for name in self.diffusion.state_dict()
        ]
        # An epoch that is resumed in its middle does not start.
        self._finite: FiniteLosses | None = None
        self._resumed: dict[str, Any] | None = None
        # Plain values, which are safe to read from a checkpoint.
        self.save_hyperparameters(
            {
                'config': asdict(config),
                'modalities': list(self.model.modalities),
                'edge_type': self.task.edge_type,
            }
        )

    @property
    def model(self) -> DiffMM:
        r"""The model."""
        return self.task.model

    @property
    def diffusion(self) -> ModalityDiffusion:
        r"""The denoisers."""
        return self.task.diffusion

    def forward(self, user_index: Tensor | None = None) -> Tensor:
        r"""Returns the top :obj:`config.k` items of the given users, or of all,
        by :meth:`Recommender.recommend
        <diffmm_geo.recommender.Recommender.recommend>`.
        """
        k = self.config.k
        out: Tensor = self._recommender().recommend(user_index, k)
        return out

    def _recommender(self) -> Recommender:
        return Recommender(*self._embeddings(), self.task.edge_index)

    def _embeddings(self) -> tuple[Tensor, Tensor]:
        # Training reuses what is made lazily of the graphs.
        with torch.inference_mode(False):
            return self.task.embeddings()

    def configure_optimizers(self) -> Optimizer:
        self.task.reset_optimizers()
        return self.task.optimizers['model']

    def on_fit_start(self) -> None:
        trainer = self.trainer
        check_equal(
            'devices', trainer.world_size, 1, 'denoisers train on all users'
        )
        check_equal(
            'precision',
            trainer.precision,
            '32-true',
            'that of large products is a setting of DiffMMConfig',
        )
        resumed, self._resumed = self._resumed, None
        if resumed is not None and trainer.ckpt_path is not None:
            self.task.optimizers['diffusion'].load_state_dict(
                resumed['diffusion_optimizer']
            )
            self.task.random_state.load_state_dict(resumed['random'])

    def train_dataloader(self) -> _Loader:
        return _Loader(self.task.num_batches, self._batches)

    def _batches(self) -> Iterator[Any]:
        entered, batches = self.task.random_state.entered, None
        while True:
            with entered():
                if batches is None:
                    batches = iter(self.task.batches())
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def on_train_epoch_start(self) -> None:
        epoch = self.current_epoch + 1
        self._finite = None
        entered = self.task.random_state.entered
        with errors_of_epoch(epoch), entered():
            losses = self.task.start_epoch()
        self.model.train()
        self._log('loss', losses)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        with self.task.random_state.entered():
            losses = self.task.loss(batch)
        terms = torch.stack(list(losses.values()))
        if self._finite is None:
            self._finite = FiniteLosses(
                self.task.loss_names,
                self.task.num_batches - batch_idx,
                self.current_epoch + 1,
                batch_idx + 1,
            )
        self._finite.add(terms.detach())
        self._log('loss', losses, batch.size(1))
        return terms.sum()

    def on_train_epoch_end(self) -> None:
        if self._finite is not None:
            self._finite.check()

    def on_fit_end(self) -> None:
        self.task.end_fit()

    def val_dataloader(self) -> _Loader:
        return _Loader(1, lambda: [self.task.edge_label_index['val']])

    def test_dataloader(self) -> _Loader:
        if 'test' not in self.task.edge_label_index:
            raise ValueError(
                f"'data' needs 'test_edge_label_index' for "
                f'{self.task.edge_type} (got none)'
            )
        return _Loader(1, lambda: [self.task.edge_label_index['test']])

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        split = 'test' if self.trainer.testing else 'val'
        metrics = mean_metrics(self._recommender(), batch, [self.config.k])
        self._log(split, metrics)
        if split == 'val':
            for m, metrics in self.task.metrics()['generated'].items():
                self._log(f'generated/{m}', metrics)

    test_step = validation_step

    def predict_dataloader(self) -> _Loader:
        users = torch.arange(self.task.num_users)
        batches = users.split(self.config.batch_size)
        return _Loader(len(batches), lambda: batches)

    def on_predict_start(self) -> None:
        # One propagation for all batches.
        self._predictor = self._recommender()

    def on_predict_end(self) -> None:
        del self._predictor

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        out: Tensor = self._predictor.recommend(batch, self.config.k)
        return out

    def _log(
        self,
        group: str,
        values: Mapping[str, float | Tensor],
        batch_size: int = 1,
    ) -> None:
        self.log_dict(
            {f'{group}/{name}': value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=batch_size,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        optimizer = self.task.optimizers['diffusion']
        checkpoint[KEY] = {
            'generated': self.task.generated,
            'diffusion_optimizer': optimizer.state_dict(),
            'random': self.task.random_state.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if KEY not in checkpoint:
            raise ValueError(
                f"'checkpoint' needs to be one of {type(self).__name__} "
                f'(got one with {list(checkpoint)})'
            )
        self._resumed = checkpoint[KEY]
        generated = checkpoint[KEY]['generated'].items()
        self.task.set_graphs({t: x.to(self.task.device) for t, x in generated})


@dataclass
class _Loader:
    # No DataLoader, which draws a random number in each epoch.
    length: int
    batches: Callable[[], Iterable[Any]]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches())
