from __future__ import annotations

import copy
import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import evaluate
from diffmm_geo.training.checkpoint import CheckpointFolder
from diffmm_geo.training.config import TrainingConfig
from diffmm_geo.training.graphed_step import GraphedStep, Step
from diffmm_geo.training.negative_sampler import NegativeSampler
from diffmm_geo.training.random_state import (
    random_state,
    set_random_state,
)
from diffmm_geo.utils.checks import (
    check_device,
    check_edge_index,
    check_edge_type,
    check_k,
    check_type,
    check_values,
)
from diffmm_geo.utils.finite import FiniteLosses, NonFiniteLossError
from diffmm_geo.utils.memory import kept_memory, release_memory

Record = dict[str, Any]
Callback = Callable[[Record], None]
# What says when to stop may change where training goes on.
STOPPING = ('num_epochs', 'patience')
SPLITS = ('val', 'test')


class Trainer(ABC):
    r"""Trains a recommender until its validation Recall stops rising, and
    keeps the weights of the best epoch.

    A subclass says how to train its :obj:`model` for an epoch
    (:meth:`train_epoch`), with which :obj:`optimizer`, what the embeddings
    are (:meth:`embeddings`) and, if there is more to its state than that of
    the model, what it is (:meth:`state_dict`, :meth:`load_state_dict`).

    Args:
        data (HeteroData): The user-item graph; the store of
            :obj:`edge_type` holds the observed interactions in
            :obj:`edge_index`, and those held out in
            :obj:`val_edge_label_index` and :obj:`test_edge_label_index`.
        config (TrainingConfig): The settings.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device to train on.
            (default: :obj:`'cpu'`)

    Attributes:
        history (list[dict]): For each epoch its number, mean losses, metrics
            on :obj:`'val'` and :obj:`'test'`, and seconds by phase.
        best_val (dict): The record of the epoch with the highest validation
            Recall, the honest number.
        best_test (dict): The record of the epoch with the highest test
            Recall, which is what the authors' code prints.
    """

    model: Module
    optimizer: Optimizer
    num_users: int
    num_items: int

    def __init__(
        self,
        data: HeteroData,
        config: TrainingConfig,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        check_type('data', data, HeteroData)
        check_type('config', config, TrainingConfig)
        self.config = config
        self.edge_type = check_edge_type(edge_type)
        self.device = check_device(device)
        if config.cuda_graphs and self.device.type != 'cuda':
            raise ValueError(
                f"'cuda_graphs' needs a CUDA device (got '{self.device}')"
            )
        if self.edge_type not in data.edge_types:
            raise ValueError(
                f"'data' needs edges of type {self.edge_type} "
                f'(got {data.edge_types})'
            )
        sizes = [data[t].num_nodes for t in (edge_type[0], edge_type[2])]
        if None in sizes or 0 in sizes:
            raise ValueError(
                f"'data' needs nodes of types '{edge_type[0]}' "
                f"and '{edge_type[2]}' (got {sizes} of them)"
            )
        self.num_users, self.num_items = sizes

        store = data[self.edge_type]
        self.edge_index = self._edges(store, 'edge_index')
        if self.edge_index.size(1) == 0:
            raise ValueError(
                "'edge_index' needs at least one interaction (got none)"
            )
        self.edge_label_index = {
            split: self._edges(store, f'{split}_edge_label_index')
            for split in SPLITS
            if f'{split}_edge_label_index' in store
        }
        for split, held_out in self.edge_label_index.items():
            if held_out.size(1) == 0:
                raise ValueError(
                    f"'{split}_edge_label_index' needs at least one held-out "
                    f'interaction (got none)'
                )
        if 'val' not in self.edge_label_index:
            raise ValueError(
                f"'data' needs 'val_edge_label_index' for "
                f'{self.edge_type} to choose the epoch by '
                f'(got {list(store.keys())})'
            )
        check_k(config.k, self.num_items)
        self._negative_sampler = NegativeSampler(
            self.edge_index, self.num_users, self.num_items
        )
        # Who has interacted with everything has nothing left to rank.
        mask = self._negative_sampler.has_negatives(self.edge_index[0])
        if not bool(mask.any()):
            raise ValueError(
                "'edge_index' needs at least one user with an item not "
                'interacted with (got none)'
            )
        self._positives = self.edge_index
        if not bool(mask.all()):
            self._positives = self.edge_index[:, mask]
        self.history: list[Record] = []
        self._clock: dict[str, float] = {}
        self._on_step: Callable[[], None] = _nothing
        # Whoever builds a model after this line builds the same one.
        seed_everything(config.seed)

    def _edges(self, store: Any, name: str) -> Tensor:
        edge_index = check_edge_index(
            name, store.get(name), self.num_users, self.num_items
        )
        return check_values(name, edge_index).to(self.device)

    @property
    def num_batches(self) -> int:
        r"""The number of batches of :meth:`triples`."""
        return -(-self._positives.size(1) // self.config.batch_size)

    def triples(self) -> tuple[Tensor, ...]:
        r"""The observed interactions in random order, each with a negative
        item, in batches.

        Shapes:
            - **output:** users, positive and negative items :math:`(3, B)`
        """
        order = torch.randperm(self._positives.size(1), device=self.device)
        positives = self._positives[:, order]
        negative = self._negative_sampler.sample(positives[0])
        out: tuple[Tensor, ...] = torch.stack([*positives, negative]).split(
            self.config.batch_size, dim=1
        )
        return out

    def train_on_triples(
        self,
        optimizer: Optimizer,
        loss_fn: Callable[[Tensor, Tensor, Tensor], Tensor],
        names: Sequence[str] = ('bpr',),
    ) -> dict[str, float]:
        r"""One pass over the observed interactions in random order, each with
        a negative item.

        Args:
            optimizer (torch.optim.Optimizer): Takes a step a batch.
            loss_fn (callable): The vector of loss terms, to be summed up, of
                users, positive and negative items.
            names (list[str], optional): The names of the terms.
                (default: :obj:`('bpr',)`)

        Returns:
            The mean of each term.

        Raises:
            NonFiniteLossError: If a term is infinite or not a number.
        """

        def step(batch: Sequence[Tensor]) -> Tensor:
            return self._step([optimizer], loss_fn(*batch))

        take_step: Step = step
        if self.config.cuda_graphs:
            take_step = GraphedStep(step)
        losses = self._mean_losses(
            ((take_step(b.unbind()), b.size(1)) for b in self.triples()), names
        )
        optimizer.zero_grad()
        return losses

    def _step(self, optimizers: Sequence[Optimizer], terms: Tensor) -> Tensor:
        r"""A step down the sum of terms."""
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms.sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        return terms.detach()

    def _mean_losses(
        self,
        steps: Iterable[tuple[Tensor, int]],
        names: Sequence[str],
    ) -> dict[str, float]:
        r"""The mean of each term over all triples, of the terms of each step
        and its number of triples.
        """
        total: Tensor | float = 0.0
        finite = FiniteLosses(names)
        for number, (terms, size) in enumerate(steps, start=1):
            finite.add(number, terms)
            total = total + terms * (size / self._positives.size(1))
            self._on_step()
        finite.check()
        assert isinstance(total, Tensor)
        return dict(zip(names, total.tolist()))

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        r"""Trains for an epoch and returns mean losses."""

    @abstractmethod
    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""The embeddings of users and items, whose products are scores."""

    def state_dict(self) -> dict[str, Any]:
        r"""All that :meth:`embeddings` depends on."""
        return {'model': self.model.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Takes over what :meth:`state_dict` returned."""
        self.model.load_state_dict(state_dict['model'])

    @property
    def num_steps(self) -> int:
        r"""The number of steps of an epoch, for progress."""
        return self.num_batches

    @property
    def metric(self) -> str:
        r"""The metric that the epoch is chosen by."""
        return f'recall@{self.config.k}'

    @property
    def best_val(self) -> Record:
        return self._best('val')

    @property
    def best_test(self) -> Record:
        return self._best('test')

    def _best(self, split: str) -> Record:
        # The first of equals.
        return max(self.history, key=lambda r: r[split][self.metric])

    def autocast(self) -> torch.autocast:
        r"""The type that large products are taken in."""
        return torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.config.precision == 'bf16',
        )

    def adam(
        self,
        parameters: Iterator[torch.nn.Parameter],
        lr: float,
    ) -> Adam:
        r"""Adam in its fused form where there is one."""
        return Adam(
            parameters,
            lr=lr,
            fused=self.device.type in ('cpu', 'cuda'),
            capturable=self.config.cuda_graphs,
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        r"""Counts the seconds of a phase of the epoch."""
        start = time.perf_counter()
        yield
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        elif self.device.type == 'cpu':
            release_memory()
        seconds = time.perf_counter() - start
        self._clock[name] = self._clock.get(name, 0.0) + seconds

    def evaluate(self, split: str = 'test') -> dict[str, float]:
        r"""The metrics on held-out interactions, ranking all items but those
        observed.
        """
        if split not in self.edge_label_index:
            raise ValueError(
                f"'split' needs to be one of "
                f'{list(self.edge_label_index)} (got {split!r})'
            )
        user, item = self.embeddings()
        return self._metrics(user, item, self.edge_label_index[split])

    def _metrics(
        self,
        user: Tensor,
        item: Tensor,
        edge_label_index: Tensor,
    ) -> dict[str, float]:
        return evaluate(
            user, item, edge_label_index, self.edge_index, self.config.k
        )

    @property
    def writes_files(self) -> bool:
        r"""Whether this process is the one of its run that writes files."""
        return True

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        r"""The optimisers, by names of one's own."""
        return {'model': self.optimizer}

    @property
    def data_dict(self) -> dict[str, Tensor]:
        r"""All of the data that training depends on."""
        held_out = {
            f'{split}_edge_label_index': x
            for split, x in self.edge_label_index.items()
        }
        return {'edge_index': self.edge_index, **held_out}

    def fit(
        self,
        progress: bool = False,
        callback: Callback | Sequence[Callback] | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> list[Record]:
        r"""Trains, and leaves the weights of the best epoch in place, also
        where it is interrupted or a loss is not finite.

        With :obj:`checkpoint_dir`, each epoch ends with a checkpoint that
        :obj:`resume` goes on from, in a new process just as in this one: the
        history is the same, on CPU bit for bit, as that of a run which was
        never stopped. :obj:`num_epochs` and :obj:`patience` may be others.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable or list, optional): Called with the record of
                each epoch. (default: :obj:`None`)
            checkpoint_dir (str or Path, optional): The folder of
                :obj:`last.ckpt`, :obj:`previous.ckpt` and :obj:`best.ckpt`.
                (default: :obj:`None`)
            resume (bool, optional): Whether to go on from the checkpoint in
                :obj:`checkpoint_dir`, if there is one; a run that starts anew
                replaces it. (default: :obj:`False`)

        Raises:
            ValueError: If the checkpoint is damaged, or one of other data or
                settings.
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        callbacks = [] if callback is None else callback
        if callable(callbacks):
            callbacks = [callbacks]
        folder = None
        if checkpoint_dir is not None:
            folder = CheckpointFolder(checkpoint_dir)
        elif resume:
            raise ValueError(
                "'checkpoint_dir' needs to be given to resume (got None)"
            )
        # The weights of the best epoch so far, unless they are in place.
        best: dict[str, Any] | None = None
        if self.history:
            best = copy.deepcopy(self.state_dict())
        on_cpu = self.device.type == 'cpu'
        try:
            if resume and folder is not None:
                content = folder.read(self.device)
                if content is not None:
                    best = self._load_checkpoint(content)
            with kept_memory() if on_cpu else nullcontext():
                while not self._is_over():
                    record = self._epoch(progress)
                    self.history.append(record)
                    if self.best_val is record:
                        best = None  # Not two of them in memory.
                        best = copy.deepcopy(self.state_dict())
                    if folder is not None:
                        assert best is not None
                        with self.phase('checkpoint'):
                            self._write_checkpoint(folder, best)
                        record['seconds'] = dict(self._clock)
                    for function in callbacks:
                        function(record)
        finally:
            if best is not None:
                self.load_state_dict(best)
        return self.history

    def _write_checkpoint(
        self,
        folder: CheckpointFolder,
        best: dict[str, Any],
    ) -> None:
        folder.write(*self._checkpoint(best))

    def _checkpoint(
        self,
        best: dict[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        r"""What to go on from, and the weights if they are the best so far."""
        is_best = self.best_val is self.history[-1]
        state = best if is_best else self.state_dict()
        return {
            'trainer': type(self).__name__,
            'config': asdict(self.config),
            'data': self._digests,
            'history': self.history,
            'state': state,
            'best': None if is_best else best,
            'optimizers': {
                name: optimizer.state_dict()
                for name, optimizer in self.optimizers.items()
            },
            'random': random_state(self.device),
        }, {'record': self.best_val, 'state': best} if is_best else None

    def _load_checkpoint(self, content: dict[str, Any]) -> dict[str, Any]:
        r"""Takes over a checkpoint, and returns the weights of the best
        epoch.
        """
        self._check_checkpoint(content)
        self.load_state_dict(content['state'])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content['optimizers'][name])
        self.history[:] = content['history']
        set_random_state(self.device, content['random'])
        best: dict[str, Any] = content['best'] or content['state']
        return best

    def _check_checkpoint(self, content: dict[str, Any]) -> None:
        if content['trainer'] != type(self).__name__:
            raise ValueError(
                f"'checkpoint_dir' needs to hold a run of "
                f'{type(self).__name__} (got one of {content["trainer"]})'
            )
        # As it is after a round trip: nothing but plain values.
        config, old = asdict(self.config), content['config']
        differing = [
            name
            for name in sorted({*config, *old} - {*STOPPING})
            if name not in config
            or name not in old
            or _plain(config[name]) != _plain(old[name])
        ]
        if differing:
            name = differing[0]
            raise ValueError(
                f"'{name}' needs to be {old.get(name)!r}, as in the run that "
                f'is resumed (got {config.get(name)!r})'
            )
        digests = self._digests
        if content['data'] != digests:
            differing = sorted(
                name
                for name in {*digests, *content['data']}
                if digests.get(name) != content['data'].get(name)
            )
            raise ValueError(
                f"'data' needs to be that of the run that is resumed (got "
                f'another for {differing})'
            )

    @cached_property
    def _digests(self) -> dict[str, str]:
        # The data stay the same, and may be large.
        return {name: _digest(x) for name, x in self.data_dict.items()}

    def _is_over(self) -> bool:
        if not self.history:
            return False
        epoch: int = self.history[-1]['epoch']
        best_epoch: int = self.best_val['epoch']
        return (
            epoch >= self.config.num_epochs
            or epoch - best_epoch >= self.config.patience
        )

    def _epoch(self, progress: bool) -> Record:
        number = len(self.history) + 1
        self._clock = {}
        with _bar(f'Epoch {number}', self.num_steps, progress) as self._on_step:
            try:
                losses = self.train_epoch()
            except NonFiniteLossError as error:
                raise NonFiniteLossError(
                    error.term, error.value, error.step, number
                ) from error
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise NonFiniteLossError(name, loss, epoch=number)
        with self.phase('evaluate'):
            user, item = self.embeddings()
            metrics = {
                split: self._metrics(user, item, index)
                for split, index in self.edge_label_index.items()
            }
        return {
            'epoch': number,
            'loss': losses,
            **metrics,
            'seconds': dict(self._clock),
        }


def _nothing() -> None:
    pass


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) else value


def _digest(x: Tensor) -> str:
    x = x.detach().cpu().contiguous()
    digest = hashlib.sha256(f'{x.dtype} {list(x.size())}'.encode())
    digest.update(x.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _bar(
    name: str,
    total: int,
    progress: bool,
) -> Iterator[Callable[[], None]]:
    if not progress:
        yield _nothing
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, leave=False) as bar:
        yield bar.update
