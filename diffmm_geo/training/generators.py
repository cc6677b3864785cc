r"""Where the graph of every modality comes from, in each epoch of
:class:`~diffmm_geo.training.DiffMMTrainer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.utils.checks import check_k

if TYPE_CHECKING:
    from diffmm_geo.training.diffmm_trainer import DiffMMTrainer


class EdgeGenerator(ABC):
    r"""Generates the edges of every modality.

    Args:
        trainer (DiffMMTrainer): The trainer, whose settings, interactions
            and modules it uses.
    """

    def __init__(self, trainer: DiffMMTrainer) -> None:
        self.trainer = trainer

    @property
    def num_steps(self) -> int:
        r"""The number of steps that :meth:`train_epoch` takes."""
        return 0

    def train_epoch(self) -> dict[str, float]:
        r"""Trains what there is to train for an epoch, and returns the mean
        loss of each modality.
        """
        return {}

    @abstractmethod
    def edges(self) -> dict[str, Tensor]:
        r"""The :obj:`edge_index` of every modality."""


class DiffusionGenerator(EdgeGenerator):
    r"""The paper's: the items that the denoisers score the highest."""

    def __init__(self, trainer: DiffMMTrainer) -> None:
        super().__init__(trainer)
        self._interactions = ItemLists.distinct_items(
            trainer.edge_index, trainer.num_users, trainer.num_items
        )

    @property
    def batch_size(self) -> int:
        r"""The number of users a step of :meth:`train_epoch`."""
        config = self.trainer.config
        return config.diffusion_batch_size or config.batch_size

    @property
    def num_steps(self) -> int:
        return -(-self.trainer.num_users // self.batch_size)

    def train_epoch(self) -> dict[str, float]:
        trainer, config = self.trainer, self.trainer.config
        with torch.no_grad():
            modality_emb = trainer.model.projected(trainer.feature_dict)
        return trainer.diffusion.train_epoch(
            trainer.diffusion_optimizer,
            self._interactions,
            trainer.model.item_emb.weight.detach(),
            modality_emb,
            config.msi_weight,
            self.batch_size,
            config.diffusion_form,
            trainer._on_step,
        )

    def candidates(self) -> Tensor | None:
        r"""The items to generate from, drawn anew, if not all of them."""
        trainer, count = self.trainer, self.trainer.config.num_generated_from
        if count is None or count >= trainer.num_items:
            return None
        order = torch.randperm(trainer.num_items, device=trainer.device)
        return order[:count]

    def edges(self) -> dict[str, Tensor]:
        candidates = self.candidates()
        return {
            m: self.trainer.diffusion.sample_edges_of(
                m,
                self._interactions,
                self.trainer.config.num_edges_per_user,
                candidates=candidates,
            )
            for m in self.trainer.model.modalities
        }


class RandomGenerator(EdgeGenerator):
    r"""Items drawn uniformly, anew in each epoch and for each modality: the
    same number of edges that knows nothing. Denoisers are not trained.
    """

    def __init__(self, trainer: DiffMMTrainer) -> None:
        super().__init__(trainer)
        check_k(
            trainer.config.num_edges_per_user,
            trainer.num_items,
            'num_edges_per_user',
        )

    def edges(self) -> dict[str, Tensor]:
        trainer = self.trainer
        k = trainer.config.num_edges_per_user
        user = torch.arange(trainer.num_users, device=trainer.device)
        return {
            m: torch.stack(
                [
                    user.repeat_interleave(k),
                    random_subsets(user, trainer.num_items, k).flatten(),
                ]
            )
            for m in trainer.model.modalities
        }


class ObservedGenerator(EdgeGenerator):
    r"""The observed interactions themselves: views of modalities differ by
    features and edge dropout alone. Denoisers are not trained.
    """

    def edges(self) -> dict[str, Tensor]:
        trainer = self.trainer
        return {m: trainer.edge_index for m in trainer.model.modalities}


GENERATORS: dict[str, type[EdgeGenerator]] = {
    'diffusion': DiffusionGenerator,
    'random': RandomGenerator,
    'observed': ObservedGenerator,
}


def random_subsets(row: Tensor, num_items: int, k: int) -> Tensor:
    r"""For each row, :obj:`k` distinct items, all subsets being equally
    likely, by Floyd's algorithm in all rows at once.
    """
    out = row.new_full((row.numel(), k), -1)
    for n, last in enumerate(range(num_items - k, num_items)):
        item = torch.randint(last + 1, row.shape, device=row.device)
        taken = (out == item[:, None]).any(dim=1)
        out[:, n] = item.masked_fill(taken, last)
    return out
