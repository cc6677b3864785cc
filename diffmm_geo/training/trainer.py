from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
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
from diffmm_geo.training.checkpoint import (
    checkpoint_path,
    make_checkpoint,
    read_checkpoint,
    restore_checkpoint,
    write_checkpoint,
)
from diffmm_geo.training.graphed_step import CUDARecorder, GraphedStep
from diffmm_geo.utils.checks import check_choice, check_type, describe
from diffmm_geo.utils.extras import check_package
from diffmm_geo.utils.finite import FiniteLosses, errors_of_epoch

Record = dict[str, Any]
Callback = Callable[[Record], None]


class Trainer:
    r"""Trains a task until its validation metric (Recall by default) stops
    rising, and keeps the weights of the best epoch, *e.g.*,
    :obj:`Trainer(DiffMMTask(data, config)).fit()`.

    It draws the random numbers of its task and leaves the caller's as they
    were, also for callbacks. Trainers in several threads take turns, by epoch.

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

    def evaluate(self, split: str = 'test') -> dict[str, float]:
        r"""The metrics on held-out interactions, among all unobserved items."""
        check_choice('split', split, self.task.edge_label_index)
        return self._evaluate([split])[split]

    def _evaluate(self, splits: Iterable[str]) -> dict[str, dict[str, float]]:
        recommender = Recommender(*self.embeddings(), self.edge_index)
        held_out, k = self.task.edge_label_index, [self.config.k]
        return {s: mean_metrics(recommender, held_out[s], k) for s in splits}

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
        task = self.task
        with task.random_state.entered():
            losses = task.start_epoch(on_step)
            with task.phase('recommend'):
                return {**losses, **self.train_on_batches(on_step)}

    def train_on_batches(
        self, on_step: OnStep | None = None
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
        with task.random_state.entered():
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
                *(self._step, CUDARecorder(task.device)),
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

        With :obj:`checkpoint_dir`, each epoch ends with a checkpoint, which
        also holds the weights of the best epoch. With :obj:`resume`, training
        continues from it, in this process or a new one. It ends with the same
        history as an uninterrupted run (on CPU, bit for bit).
        :obj:`num_epochs` and :obj:`patience` may differ.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable or list, optional): Called with the record of
                each epoch. (default: :obj:`None`)
            checkpoint_dir (str or Path, optional): The folder of the
                checkpoint, :obj:`last.ckpt`. (default: :obj:`None`)
            resume (bool, optional): Whether to continue from the checkpoint,
                if there is one. Otherwise, a new run replaces it.
                (default: :obj:`False`)

        Raises:
            ImportError: If progress is to be shown without tqdm.
            ValueError: If the checkpoint is damaged, or belongs to other data
                or settings.
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        callbacks = [] if callback is None else callback
        callbacks = [callbacks] if callable(callbacks) else callbacks
        is_list = isinstance(callbacks, (list, tuple))
        if not is_list or not all(map(callable, callbacks)):
            raise ValueError(
                f"'callback' needs to be a callable or a list of these "
                f'(got {describe(callback)})'
            )
        if progress:
            check_package('tqdm', 'examples', 'progress=True')
        path = None
        if checkpoint_dir is not None:
            path = checkpoint_path(checkpoint_dir)
        elif resume:
            raise ValueError(
                "'checkpoint_dir' needs to be given to resume (got None)"
            )
        # The weights of the best epoch so far, unless they are in place.
        best: dict[str, Any] | None = None
        if any('val' in record for record in self.history):
            best = copy.deepcopy(self.task.get_state())
        self._losses = None  # Resuming replaces the state of optimizers.
        try:
            if resume and path is not None and path.exists():
                content = read_checkpoint(path, self.task.device)
                self.history[:], best = restore_checkpoint(self.task, content)
            while not self._is_over():
                record = self._epoch(progress)
                self.history.append(record)
                is_best = 'val' in record and self.best_val is record
                if is_best:
                    best = None  # Not two of them in memory.
                    best = copy.deepcopy(self.task.get_state())
                if path is not None:
                    with self.task.phase('checkpoint'):
                        args = self.history, None if is_best else best
                        write_checkpoint(
                            path, make_checkpoint(self.task, *args)
                        )
                    record['seconds'] = dict(self.task.seconds)
                for function in callbacks:
                    function(record)
        finally:
            if best is not None:
                self.task.set_state(best)
        self.task.end_fit()
        return self.history

    def _is_over(self) -> bool:
        if not self.history:
            return False
        last, waited = self.history[-1], 0
        if 'val' in last:
            waited = last['epoch'] - self.best_val['epoch']
        is_last: bool = last['epoch'] >= self.config.num_epochs
        return is_last or waited >= self.config.patience

    def _epoch(self, progress: bool) -> Record:
        number = len(self.history) + 1
        self.task.seconds.clear()
        bar: Any = nullcontext()
        if progress:
            from tqdm.auto import tqdm

            total = self.task.num_epoch_steps
            bar = tqdm(total=total, desc=f'Epoch {number}', leave=False)
        with errors_of_epoch(number), bar as shown:
            losses = self.train_epoch(shown.update if progress else None)
        record: Record = {'epoch': number, 'loss': losses}
        c = self.config
        if number == c.num_epochs or number % c.eval_every == 0:
            with self.task.phase('evaluate'):
                record |= self._evaluate(self.task.edge_label_index)
                record |= self.task.metrics()
        return {**record, 'seconds': dict(self.task.seconds)}
