r"""Ends the training of denoisers by interactions that they do not see."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.sparse import CSR

# Recall is measured among so many items of each user, or a tenth of all.
K = 20
MAX_USERS = 2048


def hold_out(lists: CSR) -> tuple[CSR, Tensor]:
    r"""Takes a random interaction of each of up to :obj:`MAX_USERS` users with
    more than one.

    Shapes:
        - **output:** the rest, and users and items :math:`(2, N)`
    """
    size = lists.rowptr.diff()
    users = (size > 1).nonzero().view(-1)
    if users.numel() == 0:
        raise ValueError(
            "'num_epochs' needs to be given if no user has two interactions, "
            'one of which could be held out (got None)'
        )
    order = torch.randperm(users.numel(), device=users.device)
    users = users[order[:MAX_USERS]].sort().values
    place = (
        torch.rand(users.numel(), device=users.device) * size[users]
    ).long()
    place = lists.rowptr[users] + place.minimum(size[users] - 1)
    keep = torch.ones(lists.nnz, dtype=torch.bool, device=users.device)
    keep[place] = False
    return lists.filter(keep), torch.stack([users, lists.col[place]])


class HeldOutStop:
    r"""Trains each denoiser until the recall of held-out interactions has not
    grown for :obj:`patience` epochs, and gives it its best weights back. With
    :obj:`num_epochs`, there are exactly so many epochs.
    """

    def __init__(
        self,
        diffusion: ModalityDiffusion,
        lists: CSR,
        held_out: Tensor | None,
        num_epochs: int | None,
        patience: int,
    ) -> None:
        self.diffusion, self.num_epochs = diffusion, num_epochs
        self.patience, self.modalities = patience, list(diffusion.modalities)
        if held_out is not None:
            self.item = held_out[1]
            self.lists = lists.take(held_out[0])
        self.best = dict.fromkeys(self.modalities, (-1.0, 0))
        self.state: dict[str, dict[str, Tensor]] = {}

    def epochs(self) -> Iterator[int]:
        r"""The epochs of those :obj:`modalities` that still train."""
        for epoch in count(1):
            if not self.modalities or epoch - 1 == self.num_epochs:
                return
            yield epoch
            if self.num_epochs is None:
                self.modalities = [
                    m for m in self.modalities if self._goes_on(m, epoch)
                ]

    def _goes_on(self, modality: str, epoch: int) -> bool:
        recall, denoiser = (
            self.recall(modality),
            self.diffusion[modality].denoiser,
        )
        if recall > self.best[modality][0]:
            self.best[modality] = recall, epoch
            state = denoiser.state_dict()
            self.state[modality] = {n: x.clone() for n, x in state.items()}
        elif epoch - self.best[modality][1] >= self.patience:
            denoiser.load_state_dict(self.state.pop(modality))
            return False
        return True

    def recall(self, modality: str) -> float:
        r"""The share of held-out interactions among the unobserved items that
        score highest.
        """
        k = max(1, min(K, self.diffusion.num_items // 10))
        row, item = self.diffusion.sample_edges(
            modality, self.lists, num_edges_per_user=k, exclude_observed=True
        )
        hit = item == self.item[row]
        return float(hit.sum() / self.item.numel())
