r"""DiffMM for training with `Lightning <https://lightning.ai/docs/pytorch>`_;
needs the extra :obj:`lightning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import mean_metrics
from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender
from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.tasks.diffmm_config import DiffMMConfig
from diffmm_geo.utils.checks import check_equal
from diffmm_geo.utils.finite import FiniteLosses, errors_of_epoch
from diffmm_geo.utils.random_state import RandomState

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

    With several devices (:obj:`strategy="ddp"`), ranks split users and
    interactions: each takes its own batches, and gradients are averaged, so
    that a step has :obj:`batch_size` interactions (or users, for the denoisers)
    per rank. Ranks also split generation and evaluation by users.
    :obj:`trainer.predict(module)` then returns the items of the rank's share
    of users: consecutive ones, in the order of ranks.

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
            Lightning is asked for another precision.
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

    def forward(self, user_index: Tensor | None = None) -> Tensor:
        r"""Returns the top :obj:`config.k` items of the given users, or of all,
        by :meth:`Recommender.recommend
        <diffmm_geo.recommender.Recommender.recommend>`.
        """
        k = self.config.k
        out: Tensor = self._recommender().recommend(user_index, k)
        return out

    def _recommender(self) -> Recommender:
        # Training reuses what is made lazily of the graphs.
        with torch.inference_mode(False):
            embeddings = self.task.embeddings()
        return Recommender(*embeddings, self.task.edge_index)

    @property
    def _rank(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def _padded_share(self, order: Tensor) -> Tensor:
        r"""This rank's elements. As in
        :class:`~torch.utils.data.DistributedSampler`, all ranks have equally
        many: the first elements are taken twice if need be.
        """
        rank, size = self._rank
        place = torch.arange(rank, _ceil_div(order.numel(), size) * size, size)
        return order[(place % order.numel()).to(order.device)]

    def setup(self, stage: str) -> None:
        # `DistributedDataParallel` averages the gradients that it finds here.
        # Those of the denoisers are averaged in their own steps.
        if stage == 'fit':
            self.task.diffusion.requires_grad_(False)

    def configure_optimizers(self) -> Optimizer:
        self.task.reset_optimizers()
        return self.task.optimizers['model']

    def on_fit_start(self) -> None:
        trainer = self.trainer
        check_equal(
            'precision',
            trainer.precision,
            '32-true',
            'that of large products is a setting of DiffMMConfig',
        )
        self.task.diffusion.requires_grad_(True)
        optimizer = self.task.optimizers['diffusion']
        if trainer.world_size > 1:
            optimizer.register_step_pre_hook(self._average_gradients)
        resumed, self._resumed = self._resumed, None
        if resumed is not None and trainer.ckpt_path is not None:
            optimizer.load_state_dict(resumed['diffusion_optimizer'])
            self.task.random_state.load_state_dict(resumed['random'])

    def _average_gradients(self, optimizer: Optimizer, *args: Any) -> None:
        for group in optimizer.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    p.grad = self.trainer.strategy.reduce(p.grad)

    def train_dataloader(self) -> _Loader:
        share = _ceil_div(self.task.positives.size(1), self._rank[1])
        length = _ceil_div(share, self.config.batch_size)
        return _Loader(length, self._batches)

    def _batches(self) -> Iterable[Tensor]:
        with self.task.random_state.entered():
            batches = self.task.batches()
        if self._rank[1] == 1:
            return batches
        triples = torch.cat(list(batches), dim=1)
        own = self._padded_share(torch.arange(triples.size(1)))
        return torch.split(triples[:, own], self.config.batch_size, dim=1)

    def on_train_epoch_start(self) -> None:
        epoch = self.current_epoch + 1
        self._finite = None
        task = self.task
        is_split = self._rank[1] > 1 and task.num_denoiser_steps > 0
        start = self._start_epoch_on_ranks if is_split else task.start_epoch
        with errors_of_epoch(epoch), task.random_state.entered():
            losses = start()
        self.model.train()
        self._log('loss', losses)

    def _start_epoch_on_ranks(self) -> dict[str, float]:
        task, (rank, size) = self.task, self._rank
        # The noise of ranks differs, but nothing else that they draw.
        seed = int(torch.randint(2**31, ())) + rank
        noise = RandomState(seed, task.device)
        users = torch.arange(task.num_users, device=task.device)
        order = torch.randperm(task.num_users, device=task.device)
        with task.phase('diffusion'), noise.entered():
            losses = task.train_denoisers(users=self._padded_share(order))
        with task.phase('generate'):
            edges = task.generate(users.tensor_split(size)[rank])
            task.set_graphs({t: self._gathered(x) for t, x in edges.items()})
        return losses

    def _gathered(self, edge_index: Tensor) -> Tensor:
        r"""The edges of all ranks, in their order."""
        count = edge_index.new_tensor(edge_index.size(1))
        length = int(self.trainer.strategy.reduce(count, reduce_op='max'))
        padded = F.pad(edge_index, (0, length - edge_index.size(1)), value=-1)
        user, item = self.all_gather(padded).unbind(dim=1)
        return torch.stack([user[user >= 0], item[user >= 0]])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        with self.task.random_state.entered():
            losses = self.task.loss(batch)
        terms = torch.stack(list(losses.values()))
        if self._finite is None:
            num_left = int(self.trainer.num_training_batches) - batch_idx
            self._finite = FiniteLosses(
                self.task.loss_names, num_left, batch_idx + 1
            )
        with errors_of_epoch(self.current_epoch + 1):
            self._finite.add(terms.detach())
        self._log('loss', losses, batch.size(1))
        return terms.sum()

    def on_train_epoch_end(self) -> None:
        if self._finite is not None:
            with errors_of_epoch(self.current_epoch + 1):
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
        self._log(split, self._metrics(batch))
        if split == 'val':
            for m, metrics in self.task.metrics()['generated'].items():
                self._log(f'generated/{m}', metrics)

    test_step = validation_step

    def _metrics(self, edge_label_index: Tensor) -> dict[str, float]:
        rank, size = self._rank
        users = edge_label_index[0].unique()
        own = users.tensor_split(size)[rank]
        share = own.numel() / users.numel()
        # All ranks report, also those without users.
        own = own if own.numel() > 0 else users[:1]
        mask = torch.isin(edge_label_index[0], own)
        metrics = mean_metrics(
            self._recommender(), edge_label_index[:, mask], [self.config.k]
        )
        values = torch.tensor(list(metrics.values()), device=self.device)
        total = self.trainer.strategy.reduce(share * values, reduce_op='sum')
        return dict(zip(metrics, total.tolist()))

    def predict_dataloader(self) -> _Loader:
        rank, size = self._rank
        users = torch.arange(self.task.num_users).tensor_split(size)[rank]
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
            sync_dist=True,
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
        # Not before the first batch: Lightning starts this before the epoch.
        yield from self.batches()


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
