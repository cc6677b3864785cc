from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.index import index2ptr


@dataclass(frozen=True, eq=False)
class ItemLists:
    r"""A list of items a row (a user, for one): those of row :math:`u` are
    :obj:`item[rowptr[u]:rowptr[u + 1]]`.

    Args:
        rowptr (torch.Tensor): Where lists begin, :obj:`[N + 1]`.
        item (torch.Tensor): The items, :obj:`[E]`.
    """

    rowptr: Tensor
    item: Tensor

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_users: int) -> ItemLists:
        r"""Groups the items of interactions by user."""
        user, order = edge_index[0].sort(stable=True)
        return cls(index2ptr(user, num_users), edge_index[1][order])

    @classmethod
    def distinct_items(
        cls,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
    ) -> ItemLists:
        r"""The same without repeated interactions, and with sorted lists. One
        key an interaction is sorted, in place of its pair of indices.
        """
        key = (edge_index[0] * num_items + edge_index[1]).unique()
        user = key.div(num_items, rounding_mode='floor')
        rowptr = index2ptr(user, num_users)
        return cls(rowptr, key.sub_(user.mul_(num_items)))

    @property
    def num_rows(self) -> int:
        r"""The number of rows."""
        return self.rowptr.numel() - 1

    @cached_property
    def row(self) -> Tensor:
        r"""The row of each item, :obj:`[E]`."""
        return torch.arange(
            self.num_rows, device=self.item.device
        ).repeat_interleave(self.rowptr.diff(), output_size=self.item.numel())

    def dense(self, num_items: int, like: Tensor) -> Tensor:
        r"""The rows of all items, one where an item is in the list, of the
        type and on the device of another tensor.
        """
        out = like.new_zeros(self.num_rows, num_items)
        out[self.row, self.item] = 1.0
        return out

    def take(self, rows: Tensor) -> ItemLists:
        r"""The lists of some rows, in their order."""
        start = self.rowptr[rows]
        count = self.rowptr[rows + 1] - start
        rowptr = count.new_zeros(rows.numel() + 1)
        torch.cumsum(count, 0, out=rowptr[1:])
        shift = (start - rowptr[:-1]).repeat_interleave(count)
        place = torch.arange(shift.numel(), device=shift.device)
        return ItemLists(rowptr, self.item[place + shift])

    def distinct(self) -> tuple[ItemLists, Tensor]:
        r"""The lists without repetition, and which of them each row's is. What
        depends on a list alone then need not be computed for each row.

        Shapes:
            - **output:** lists of :math:`D \leq N` rows, and the index of one
              of them for each row, :math:`(N)`
        """
        rows = torch.arange(self.num_rows, device=self.item.device)
        num_items = int(self.item.max()) + 1 if self.item.numel() > 0 else 0
        # Lists are told apart by the sum of a random word for each item.
        generator = torch.Generator(self.item.device).manual_seed(0)
        word = torch.randint(
            -(2**62),
            2**62,
            (num_items,),
            generator=generator,
            device=self.item.device,
        )
        total = word.new_zeros(self.item.numel() + 1)
        torch.cumsum(word[self.item], 0, out=total[1:])
        key, inverse = total[self.rowptr].diff().unique(return_inverse=True)
        first = rows.new_full((key.numel(),), self.num_rows)
        first = first.scatter_reduce(0, inverse, rows, 'amin')
        # Equal sums are all but a proof, which is this.
        like = self.take(first[inverse])
        if like.rowptr.equal(self.rowptr) and like.item.equal(self.item):
            return self.take(first), inverse
        return self, rows

    def blocks(self, height: int) -> Iterator[tuple[slice, ItemLists]]:
        r"""The lists of :obj:`height` rows at a time. A device is waited for
        once, before the first.
        """
        ends = self.rowptr[::height].tolist()
        if (self.num_rows % height) != 0:
            ends.append(self.item.numel())
        for n, (first, last) in enumerate(zip(ends[:-1], ends[1:])):
            start = n * height
            stop = min(start + height, self.num_rows)
            rowptr = self.rowptr[start : stop + 1] - first
            yield slice(start, stop), ItemLists(rowptr, self.item[first:last])
