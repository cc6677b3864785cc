from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_geometric.index import index2ptr

from diffmm_geo.ops.device import block_size
from diffmm_geo.ops.product import compute_dtype, matmul
from diffmm_geo.ops.ranking.equal_rows import equal_rows
from diffmm_geo.ops.ranking.ranking import (
    Ranking,
    merge_top_scores,
    top_scores,
)
from diffmm_geo.ops.topk.exclude_items import exclude_items_
from diffmm_geo.sparse import CSR

# Scores in flight at a time on a CPU, and items per block.
BLOCK_SIZE = 2**22
MAX_BLOCK_ITEMS = 2**14


class ItemRanker:
    r"""Ranks items by products of embeddings, in blocks that bound the memory.
    Items of equal embeddings get equal scores. A product alone does not
    guarantee this, as its rounding depends on an item's place.

    Args:
        item (torch.Tensor): The item embeddings.
        k (int): The length of the ranking.

    Shapes:
        - **item:** :math:`(I, F)`
    """

    def __init__(self, item: Tensor, k: int) -> None:
        self.item, self.k = item.to(compute_dtype(item)), k
        self.num_items = item.size(0)
        group, first = equal_rows(self.item)
        self.group: Tensor | None = None
        if first.numel() < self.num_items:
            # Each distinct row once, and items in the order of these.
            self.item = self.item[first]
            self.group, order = group.sort(stable=True)
            self.place = order.argsort()
            starts = index2ptr(self.group, first.numel())[::MAX_BLOCK_ITEMS]
            self.starts = [*starts.tolist(), self.num_items]

    def __call__(
        self, query: Tensor, label: CSR, exclude: CSR | None = None
    ) -> Ranking:
        r"""Ranks the items of each query, given its held-out items and, if
        any, its excluded items.

        Shapes:
            - **query:** :math:`(B, F)`
        """
        query = query.to(self.item.dtype)
        width = min(self.num_items, MAX_BLOCK_ITEMS)
        height = max(1, block_size(BLOCK_SIZE, query.device) // width)
        excluded = None if exclude is None else exclude.blocks(height)
        parts = []
        for rows, labels in label.blocks(height):
            block = None if excluded is None else next(excluded)[1]
            parts.append(self._rank(query[rows], labels, block))
        value, num_tied, label_score = (torch.cat(x) for x in zip(*parts))
        return Ranking(value, num_tied, label.row, label_score)

    def _rank(
        self, query: Tensor, label: CSR, exclude: CSR | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        top: tuple[Tensor, Tensor] | None = None
        column = self._place(label.col)
        label_score = query.new_full((label.nnz,), float('-inf'))
        left_out = None if exclude is None else self._place(exclude.col)
        for start, score in self._scores(query):
            if exclude is not None and left_out is not None:
                exclude_items_(
                    score, exclude.row, left_out, start, self.num_items
                )
            inside = (column >= start) & (column < start + score.size(1))
            here = (column - start).clamp_(0, score.size(1) - 1)
            label_score = torch.where(
                inside, score[label.row, here], label_score
            )
            found = top_scores(score, min(self.k, score.size(1)))
            if top is not None:
                found = merge_top_scores(top, found, self.k)
            top = found
        assert top is not None
        return *top, label_score

    def _place(self, item: Tensor) -> Tensor:
        return item if self.group is None else self.place[item]

    def _scores(self, query: Tensor) -> Iterator[tuple[int, Tensor]]:
        r"""Yields blocks of scores, each with the place of its first item."""
        for n, part in enumerate(self.item.split(MAX_BLOCK_ITEMS)):
            score, first = matmul(query, part.t()), n * MAX_BLOCK_ITEMS
            if self.group is None:
                yield first, score
                continue
            start, stop = self.starts[n : n + 2]
            for column in self.group[start:stop].split(MAX_BLOCK_ITEMS):
                yield start, score[:, column - first]
                start += column.numel()
