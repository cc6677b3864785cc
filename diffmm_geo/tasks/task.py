from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Adam, Optimizer
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.tasks.config import TrainingConfig
from diffmm_geo.tasks.negative_sampler import NegativeSampler
from diffmm_geo.utils.checks import (
    check_device,
    check_edge_index,
    check_edge_type,
    check_k,
    check_type,
    check_unweighted,
)
from diffmm_geo.utils.checksum import tensor_digest
from diffmm_geo.utils.held_out import check_splits
from diffmm_geo.utils.interactions import count_nodes, observed_edges
from diffmm_geo.utils.random_state import RandomState
from diffmm_geo.utils.tf32 import has_tf32, tf32_products

OnStep = Callable[[], None]
SPLITS, HELD_OUT = ('val', 'test'), '{}_edge_label_index'


class Task(Module, ABC):
    r"""Base class of tasks. A task holds what is trained: a model with its data
    and its objective. An engine drives the training, *e.g.*,
    :class:`~diffmm_geo.training.Trainer` or Lightning.

    In each epoch, the engine calls :meth:`start_epoch`. For each of
    :meth:`batches`, it then takes a step of :obj:`loss_optimizers` to reduce
    the sum of :meth:`loss`.

    The constructor of a subclass calls :obj:`super().__init__`, creates
    :obj:`model` within :obj:`self.random_state.entered()`, and calls
    :meth:`reset_optimizers`. A subclass implements :meth:`loss` and
    :meth:`embeddings`.

    A task has random numbers of its own, which start from the seed, so that
    those of the caller do not change. Engines draw within
    :obj:`task.random_state.entered()`. Tasks in other threads then wait.

    Args:
        data (HeteroData): The user-item graph. The store of
            :obj:`edge_type` holds the observed interactions in
            :obj:`edge_index`, and the held-out ones in
            :obj:`val_edge_label_index` and :obj:`test_edge_label_index`.
        config (TrainingConfig): The settings.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        device (torch.device or str, optional): The device of the data and
            the model. (default: :obj:`'cpu'`)

    Attributes:
        edge_index (torch.Tensor): The observed interactions.
        edge_label_index (dict[str, torch.Tensor]): The held-out interactions
            of :obj:`"val"` and, if given, :obj:`"test"`.
        loss_names (tuple[str]): The names of the terms of :meth:`loss`.
        optimizers (dict[str, torch.optim.Optimizer]): All optimizers.
        random_state: The random numbers of the task.
        seconds (dict[str, float]): The seconds of each :meth:`phase`. The
            engine resets them.

    Raises:
        ValueError: If the data are incomplete or invalid.
    """

    model: Module
    num_users: int
    num_items: int
    loss_names: tuple[str, ...] = ('bpr',)
    #: Counts the times that tensors which all steps read were replaced, besides
    #: weights and optimizers. Recorded steps read the old ones.
    inputs_version: int = 0

    def __init__(
        self,
        data: HeteroData,
        config: TrainingConfig,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        super().__init__()
        check_type('data', data, HeteroData)
        check_type('config', config, TrainingConfig)
        self.config = config
        self.edge_type = check_edge_type(edge_type)
        self.device = check_device(device)
        if config.cuda_graphs and self.device.type != 'cuda':
            raise ValueError(
                f"'cuda_graphs' needs a CUDA device (got '{self.device}')"
            )
        if config.precision == 'tf32' and not has_tf32(self.device):
            raise ValueError(
                f"'precision' needs to be 'fp32' or 'bf16' on a device without "
                f"TF32 (got 'tf32' on '{self.device}')"
            )
        size = count_nodes(data, self.edge_type)
        self.num_users, self.num_items = size
        check_k(config.k, self.num_items)
        store = data[self.edge_type]
        check_unweighted(self.edge_type, store)
        edges = {'edge_index': observed_edges(store, size)}
        for name in map(HELD_OUT.format, SPLITS):
            if name in store:
                edges[name] = check_edge_index(name, store[name], *size)
        for name, x in edges.items():
            if x.size(1) == 0:
                raise ValueError(
                    f"'{name}' needs at least one interaction (got none)"
                )
            edges[name] = x.to(self.device)
        self.edge_index = edges['edge_index']
        self.edge_label_index = {
            split: edges[name]
            for split in SPLITS
            if (name := HELD_OUT.format(split)) in edges
        }
        if 'val' not in self.edge_label_index:
            raise ValueError(
                f"'data' needs 'val_edge_label_index' for "
                f'{self.edge_type} to choose the epoch by '
                f'(got {list(store.keys())})'
            )
        self._prepare_triples()
        if self.positives.size(1) == 0:
            raise ValueError(
                "'edge_index' needs at least one user with an item not "
                'interacted with (got none)'
            )
        check_splits(edges, self.num_items)
        self.optimizers: dict[str, Optimizer] = {}
        self.seconds: dict[str, float] = {}
        self.random_state = RandomState(config.seed, self.device)

    def _prepare_triples(self) -> None:
        self.negative_sampler = NegativeSampler(
            self.edge_index, self.num_users, self.num_items
        )
        # A user with all items has no negative ones.
        mask = self.negative_sampler.has_negatives(self.edge_index[0])
        all_left = bool(mask.all())
        self.positives = (
            self.edge_index if all_left else self.edge_index[:, mask]
        )

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # Data follow the weights. They are no buffers, which
        # `DistributedDataParallel` would send around in each step.
        out = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        device = next(self.parameters()).device
        if device != self.device:
            self.move_data(device)
        return out

    def move_data(self, device: torch.device) -> None:
        r"""Moves the data to a device. Moving the module also does this."""
        self.device = self.random_state.device = device
        self.inputs_version += 1
        self.edge_index = self.edge_index.to(device)
        self.edge_label_index = {
            split: x.to(device) for split, x in self.edge_label_index.items()
        }
        self._prepare_triples()

    @property
    def data_dict(self) -> dict[str, Tensor]:
        r"""All data that training depends on, by name."""
        held_out = self.edge_label_index.items()
        out = {HELD_OUT.format(split): x for split, x in held_out}
        return {'edge_index': self.edge_index, **out}

    @cached_property
    def data_digests(self) -> dict[str, str]:
        r"""The digests of the data, which tell runs on other data apart."""
        return {name: tensor_digest(x) for name, x in self.data_dict.items()}

    @property
    def num_batches(self) -> int:
        r"""The number of :meth:`batches`."""
        return -(-self.positives.size(1) // self.config.batch_size)

    @property
    def num_epoch_steps(self) -> int:
        r"""The number of steps of a whole epoch, for progress bars."""
        return self.num_batches

    def start_epoch(self, on_step: OnStep | None = None) -> dict[str, float]:
        r"""Prepares an epoch, before its first batch.

        Args:
            on_step (callable, optional): Called after each step.
                (default: :obj:`None`)

        Returns:
            Mean losses by name.
        """
        return {}

    def triples(self) -> tuple[Tensor, ...]:
        r"""Yields batches of the observed interactions in the order of
        :meth:`order`, each with a negative item.

        Shapes:
            - **output:** users, positive and negative items :math:`(3, B)`
        """
        positives = self.positives[:, self.order()]
        negative = self.negative_sampler.sample(positives[0])
        out: tuple[Tensor, ...] = torch.stack([*positives, negative]).split(
            self.config.batch_size, dim=1
        )
        return out

    def order(self) -> Tensor:
        r"""Which of :obj:`positives` an epoch takes: each once, at random."""
        return torch.randperm(self.positives.size(1), device=self.device)

    def batches(self) -> Iterable[Any]:
        r"""The batches of an epoch, :meth:`triples` by default."""
        return self.triples()

    def weight(self, batch: Any) -> float:
        r"""The share of the epoch's triples that a batch holds."""
        num_triples: int = batch.size(1)
        return num_triples / self.positives.size(1)

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        r"""The weighted terms of the objective by name. Their sum is the
        objective.
        """

    @abstractmethod
    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""The embeddings of users and items, without gradients. Their
        products are scores.
        """

    def metrics(self) -> dict[str, Any]:
        r"""Metrics of the epoch besides those of :meth:`embeddings`, by group
        and name, for its record.
        """
        return {}

    def end_fit(self) -> None:  # noqa: B027 (there may be nothing to do)
        r"""Called when training is over, with the weights of the best epoch."""

    def get_state(self) -> dict[str, Any]:
        r"""Returns the state on which :meth:`embeddings` depends."""
        return {'model': self.model.state_dict()}

    def set_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_state` returned."""
        self.model.load_state_dict(state['model'])

    def reset_optimizers(self) -> None:
        r"""Creates new :obj:`optimizers`."""
        self.optimizers = {
            'model': self.adam(self.model.parameters(), self.config.lr)
        }

    @property
    def loss_optimizers(self) -> list[Optimizer]:
        r"""The optimizers that minimize :meth:`loss`."""
        return list(self.optimizers.values())

    def adam(self, parameters: Iterable[Parameter], lr: float) -> Adam:
        r"""Creates an Adam optimizer, in its fused form where there is one."""
        return Adam(
            parameters,
            lr=lr,
            fused=self.device.type in ('cpu', 'cuda'),
            capturable=self.config.cuda_graphs,
        )

    @contextmanager
    def autocast(self) -> Iterator[None]:
        r"""The context that sets the data type of large products."""
        kind, precision = self.device.type, self.config.precision
        low = torch.autocast(kind, torch.bfloat16, precision == 'bf16')
        with low, tf32_products(precision == 'tf32'):
            yield

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        r"""Adds the seconds of a phase of the epoch to :obj:`seconds`."""
        start = time.perf_counter()
        yield
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
