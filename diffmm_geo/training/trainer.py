from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from diffmm_geo.evaluation import mean_metrics
from diffmm_geo.recommender import Recommender
from diffmm_geo.tasks import Task
from diffmm_geo.tasks.config import TrainingConfig
from diffmm_geo.tasks.task import OnStep
from diffmm_geo.training.checkpoint import CheckpointFolder
from diffmm_geo.training.cuda_recorder import CUDARecorder
from diffmm_geo.training.graphed_step import GraphedStep
from diffmm_geo.training.resume import make_checkpoint, restore_checkpoint
from diffmm_geo.utils.checks import check_choice, check_type, describe
from diffmm_geo.utils.current_device import current_device
from diffmm_geo.utils.extras import check_package
from diffmm_geo.utils.finite import (
    FiniteLosses,
    NonFiniteLossError,
    errors_of_epoch,
)
from diffmm_geo.utils.memory import kept_memory

Record = dict[str, Any]
Callback = Callable[[Record], None]


class Trainer:
    r"""Trains a task until its validation metric (Recall by default) stops
    rising, and keeps the weights of the best epoch.

    .. code-block:: python

        trainer = Trainer(DiffMMTask(data, config))
        trainer.fit()

    It draws the random numbers of its task and leaves those of Python, NumPy
    and PyTorch as they were, also for callbacks.

    Args:
        task (Task): The model with its data and its objective.

    Attributes:
        config, model: Those of the task.
        history (list[dict]): For each epoch, its number, mean losses, metrics
            on :obj:`'val'` and :obj:`'test'` and metrics of the task (if
            evaluated), and seconds by phase.
        best_val (dict): The record of the epoch with the highest
            :obj:`metric` on validation. Report this record.
        best_test (dict): The record of the epoch with the highest
            :obj:`metric` on testing. The authors' code prints this record.
    """

    config: TrainingConfig
    model: Module

    def __init__(self, task: Task) -> None:
        check_type('task', task, Task)
        self.task = task
        self.config, self.model = task.config, task.model
        self.history: list[Record] = []
        self._losses: FiniteLosses | None = None

    @property
    def edge_index(self) -> Tensor:
        r"""The observed interactions."""
        return self.task.edge_index

    @property
    def edge_label_index(self) -> dict[str, Tensor]:
        r"""The held-out interactions by split."""
        return self.task.edge_label_index

    @property
    def device(self) -> torch.device:
        r"""The device to train on."""
        return self.task.device

    @property
    def metric(self) -> str:
        r"""The metric that selects the best epoch."""
        return f'{self.config.metric}@{self.config.k}'

    @property
    def best_val(self) -> Record:
        return self._best('val')

    @property
    def best_test(self) -> Record:
        return self._best('test')

    def _best(self, split: str) -> Record:
        records = [record for record in self.history if split in record]
        if not records:
            raise ValueError(
                f"'history' needs an epoch that was evaluated on '{split}' "
                f'(got {len(self.history)} epochs, none of them)'
            )
        # The first of equals.
        return max(records, key=lambda r: r[split][self.metric])

    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""The embeddings of users and items, whose products are scores."""
        return self.task.embeddings()

    def state_dict(self) -> dict[str, Any]:
        r"""Returns the state on which :meth:`embeddings` depends."""
        return self.task.get_state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores what :meth:`state_dict` returned."""
        self.task.set_state(state_dict)

    def evaluate(self, split: str = 'test') -> dict[str, float]:
        r"""Returns the metrics on held-out interactions. For each user, all
        items except the observed ones are ranked.
        """
        check_choice('split', split, self.edge_label_index)
        return self._metrics(*self.embeddings(), self.edge_label_index[split])

    def _metrics(
        self,
        user: Tensor,
        item: Tensor,
        edge_label_index: Tensor,
    ) -> dict[str, float]:
        recommender = Recommender(user, item, self.edge_index)
        return mean_metrics(recommender, edge_label_index, [self.config.k])

    def train_epoch(self, on_step: OnStep | None = None) -> dict[str, float]:
        r"""Trains for an epoch.

        Args:
            on_step (callable, optional): Called after each step.
                (default: :obj:`None`)

        Returns:
            Mean losses by name.

        Raises:
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        with current_device(self.device), self.task.random_state.entered():
            losses = self.task.start_epoch(on_step)
            with self.task.phase('recommend'):
                return {**losses, **self.train_on_batches(on_step)}

    def train_on_batches(
        self,
        on_step: OnStep | None = None,
    ) -> dict[str, float]:
        r"""Runs the part of :meth:`train_epoch` that follows the task's
        :meth:`~diffmm_geo.tasks.Task.start_epoch`.
        """
        task = self.task
        task.model.train()
        if self._losses is None or not self.config.cuda_graphs:
            self._start_steps()
        assert self._losses is not None
        self._losses.start_epoch()
        weights = []
        with current_device(self.device), task.random_state.entered():
            for batch in task.batches():
                self._take_step(batch)
                weights.append(task.weight(batch))
                if on_step is not None:
                    on_step()
        losses = self._losses.means(weights)
        for optimizer in task.loss_optimizers:
            optimizer.zero_grad()
        return losses

    def _start_steps(self) -> None:
        r"""Forgets the recorded step, which reads optimizers as they were."""
        task = self.task
        self._losses = FiniteLosses(task.loss_names, task.num_batches)
        self._take_step: Callable[[Any], object] = self._step
        if self.config.cuda_graphs:
            self._take_step = GraphedStep(
                self._step,
                CUDARecorder(self.device),
                lambda: task.inputs_version,
            )

    def _step(self, batch: Any) -> None:
        r"""Takes a step down the sum of the terms of the loss."""
        optimizers = self.task.loss_optimizers
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms = torch.stack(list(self.task.loss(batch).values()))
        terms.sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        # Autocast around `fit` would go on with the weights it has cast before.
        torch.clear_autocast_cache()
        assert self._losses is not None
        self._losses.add(terms.detach())

    def fit(
        self,
        progress: bool = False,
        callback: Callback | Sequence[Callback] | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> list[Record]:
        r"""Trains the model. At the end, the model has the weights of the best
        epoch, even if training is interrupted or a loss is not finite.

        With :obj:`checkpoint_dir`, each epoch ends with a checkpoint. With
        :obj:`resume`, training continues from the last checkpoint, in this
        process or a new one. It ends with the same history as an uninterrupted
        run (on CPU, bit for bit). :obj:`num_epochs` and :obj:`patience` may
        differ.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable or list, optional): Called with the record of
                each epoch. (default: :obj:`None`)
            checkpoint_dir (str or Path, optional): The folder of
                :obj:`last.ckpt`, :obj:`previous.ckpt` and :obj:`best.ckpt`.
                (default: :obj:`None`)
            resume (bool, optional): Whether to continue from the checkpoint
                in :obj:`checkpoint_dir`, if there is one. Otherwise, a new
                run replaces it. (default: :obj:`False`)

        Raises:
            ImportError: If progress is to be shown without tqdm.
            ValueError: If the checkpoint is damaged, or belongs to other data
                or settings.
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        callbacks = [] if callback is None else callback
        if callable(callbacks):
            callbacks = [callbacks]
        elif not isinstance(callbacks, (list, tuple)) or not all(
            map(callable, callbacks)
        ):
            raise ValueError(
                f"'callback' needs to be a callable or a list of these "
                f'(got {describe(callback)})'
            )
        if progress:
            check_package('tqdm', 'examples', 'progress=True')
        folder = None
        if checkpoint_dir is not None:
            folder = CheckpointFolder(checkpoint_dir)
        elif resume:
            raise ValueError(
                "'checkpoint_dir' needs to be given to resume (got None)"
            )
        # The weights of the best epoch so far, unless they are in place.
        best: dict[str, Any] | None = None
        if any('val' in record for record in self.history):
            best = copy.deepcopy(self.state_dict())
        on_cpu = self.device.type == 'cpu'
        self._losses = None  # Resuming replaces the state of optimizers.
        try:
            if resume and folder is not None:
                content = folder.read(self.device)
                if content is not None:
                    with self.task.random_state.entered():
                        self.history[:], best = restore_checkpoint(
                            self.task, content
                        )
            with kept_memory(on_cpu):
                while not self._is_over():
                    with self.task.random_state.entered():
                        record = self._epoch(progress)
                    self.history.append(record)
                    if self._is_best(record):
                        best = None  # Not two of them in memory.
                        best = copy.deepcopy(self.state_dict())
                    if folder is not None:
                        with self.task.phase('checkpoint'):
                            self._write_checkpoint(folder, best)
                        record['seconds'] = dict(self.task.seconds)
                    for function in callbacks:
                        function(record)
        finally:
            if best is not None:
                self.load_state_dict(best)
        self.task.end_fit()
        return self.history

    def _write_checkpoint(
        self,
        folder: CheckpointFolder,
        best: dict[str, Any] | None,
    ) -> None:
        is_best = self._is_best(self.history[-1])
        with self.task.random_state.entered():
            checkpoint = make_checkpoint(self.task, self.history, best, is_best)
        record = {'record': self.history[-1], 'state': best}
        folder.write(checkpoint, record if is_best else None)

    def _is_best(self, record: Record) -> bool:
        return 'val' in record and self.best_val is record

    def _is_over(self) -> bool:
        if not self.history:
            return False
        epoch: int = self.history[-1]['epoch']
        if epoch >= self.config.num_epochs:
            return True
        if 'val' not in self.history[-1]:
            return False
        best_epoch: int = self.best_val['epoch']
        return epoch - best_epoch >= self.config.patience

    def _epoch(self, progress: bool) -> Record:
        number = len(self.history) + 1
        self.task.seconds.clear()
        total = self.task.num_epoch_steps if progress else None
        with errors_of_epoch(number), _bar(f'Epoch {number}', total) as on_step:
            losses = self.train_epoch(on_step)
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise NonFiniteLossError(name, loss, epoch=number)
        metrics: dict[str, dict[str, float]] = {}
        generated: dict[str, Any] = {}
        is_last = number == self.config.num_epochs
        if is_last or number % self.config.eval_every == 0:
            with self.task.phase('evaluate'):
                embeddings = self.embeddings()
                metrics = {
                    split: self._metrics(*embeddings, index)
                    for split, index in self.edge_label_index.items()
                }
                generated = self.task.metrics()
        return {
            'epoch': number,
            'loss': losses,
            **metrics,
            **generated,
            'seconds': dict(self.task.seconds),
        }


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[OnStep | None]:
    if total is None:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, leave=False) as bar:
        yield bar.update
