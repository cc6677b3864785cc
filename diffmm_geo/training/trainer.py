from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.evaluation import evaluate
from diffmm_geo.training.config import TrainingConfig
from diffmm_geo.training.graphed_step import GraphedStep, Step
from diffmm_geo.training.negative_sampler import NegativeSampler
from diffmm_geo.utils.checks import (
    check_device,
    check_edge_index,
    check_edge_type,
    check_k,
)
from diffmm_geo.utils.memory import kept_memory, release_memory

Record = dict[str, Any]
SPLITS = ('val', 'test')


class Trainer(ABC):
    r"""Trains a recommender until its validation Recall stops rising, and
    keeps the weights of the best epoch.

    A subclass says how to train for an epoch (:meth:`train_epoch`), what the
    embeddings are (:meth:`embeddings`) and what its state is
    (:meth:`state_dict`, :meth:`load_state_dict`).

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

    def __init__(
        self,
        data: HeteroData,
        config: TrainingConfig,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
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
        return edge_index.to(self.device)

    def train_on_triples(
        self,
        optimizer: Optimizer,
        loss_fn: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> list[float]:
        r"""One pass over the observed interactions in random order, each with
        a negative item.

        Args:
            optimizer (torch.optim.Optimizer): Takes a step a batch.
            loss_fn (callable): The vector of loss terms, to be summed up, of
                users, positive and negative items.

        Returns:
            The mean of each term.
        """
        order = torch.randperm(self._positives.size(1), device=self.device)
        triples = torch.stack(
            [
                *self._positives[:, order],
                self._negative_sampler.sample(self._positives[0, order]),
            ]
        )

        def step(batch: Sequence[Tensor]) -> Tensor:
            optimizer.zero_grad()
            terms = loss_fn(*batch)
            terms.sum().backward()
            optimizer.step()
            return terms.detach()

        take_step: Step = step
        if self.config.cuda_graphs:
            take_step = GraphedStep(step)
        total: Tensor | float = 0.0
        for batch in triples.split(self.config.batch_size, dim=1):
            terms = take_step(batch.unbind())
            total = total + terms * (batch.size(1) / order.numel())
            self._on_step()
        optimizer.zero_grad()
        assert isinstance(total, Tensor)
        return total.tolist()

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        r"""Trains for an epoch and returns mean losses."""

    @abstractmethod
    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""The embeddings of users and items, whose products are scores."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        r"""All that :meth:`embeddings` depends on."""

    @abstractmethod
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Takes over what :meth:`state_dict` returned."""

    @property
    def num_steps(self) -> int:
        r"""The number of steps of an epoch, for progress."""
        return -(-self._positives.size(1) // self.config.batch_size)

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
        return evaluate(
            user,
            item,
            self.edge_label_index[split],
            self.edge_index,
            self.config.k,
        )

    def fit(
        self,
        progress: bool = False,
        callback: Callable[[Record], None] | None = None,
    ) -> list[Record]:
        r"""Trains, and leaves the weights of the best epoch in place, also
        where it is interrupted.

        Args:
            progress (bool, optional): Whether to show progress bars.
                (default: :obj:`False`)
            callback (callable, optional): Called with the record of each
                epoch. (default: :obj:`None`)
        """
        best: dict[str, Any] | None = None
        if self.history:  # The weights of the best epoch so far.
            best = copy.deepcopy(self.state_dict())
        on_cpu = self.device.type == 'cpu'
        try:
            with kept_memory() if on_cpu else nullcontext():
                while not self._is_over():
                    record = self._epoch(progress)
                    self.history.append(record)
                    if self.best_val is record:
                        best = copy.deepcopy(self.state_dict())
                    if callback is not None:
                        callback(record)
        finally:
            if best is not None:
                self.load_state_dict(best)
        return self.history

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
            losses = self.train_epoch()
        for name, loss in losses.items():
            if loss != loss or loss in (float('inf'), float('-inf')):
                raise FloatingPointError(
                    f"the loss '{name}' is {loss} in epoch {number}"
                )
        with self.phase('evaluate'):
            user, item = self.embeddings()
            metrics = {
                split: evaluate(
                    user, item, index, self.edge_index, self.config.k
                )
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
