from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# How many numbers of empty bags are tried, each way, and what is to be saved.
NUM_TRIED = 16
MIN_SAVED = 0.1
# To write a bag takes as long as to read one to three entries.
BAG_COST = 3


@dataclass(frozen=True, eq=False)
class PaddedBags:
    r"""The rows of a CSR form as bags, with empty bags in front and behind.
    PyTorch gives each thread as many consecutive bags, however many entries
    they have: empty ones move the borders between threads. What is summed up,
    and in which order, stays the same.

    Args:
        offsets (torch.Tensor): The row pointers, with the first and the last
            of them repeated.
        num_front (int): The number of empty bags in front.
    """

    offsets: Tensor
    num_front: int

    @classmethod
    def from_rowptr(cls, rowptr: Tensor, num_threads: int) -> PaddedBags:
        r"""Adds up to as many empty bags as there are rows, if the busiest
        thread then has less to do.
        """
        if num_threads == 1:
            return cls(rowptr, 0)
        num_rows = rowptr.numel() - 1
        part = torch.linspace(0, 1, NUM_TRIED, dtype=torch.double)
        # Bags a thread, by columns; how many of the empty are in front, by
        # rows.
        share = (-(-num_rows // num_threads) * (1 + part)).long()
        front = part.view(-1, 1) * (num_threads * share - num_rows)
        front = front.long()
        border = torch.arange(num_threads + 1) * share.view(-1, 1)
        border = (border - front.unsqueeze(-1)).clamp(0, num_rows)
        cost = rowptr[border].diff().amax(-1) + BAG_COST * share
        i, j = divmod(int(cost.argmin()), NUM_TRIED)
        if cost[i, j] > (1 - MIN_SAVED) * cost[0, 0]:
            return cls(rowptr, 0)
        num_front, num_bags = int(front[i, j]), num_threads * int(share[j])
        offsets = torch.cat(
            [
                rowptr.new_zeros(num_front),
                rowptr,
                rowptr[-1:].expand(num_bags - num_front - num_rows),
            ]
        )
        return cls(offsets, num_front)
