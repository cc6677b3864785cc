from typing import NamedTuple

import torch
from torch import Tensor

from diffmm_geo.utils.checks import check_k

# Scores in flight at a time: 16 MiB in float32.
BLOCK_SIZE = 2**22


class ExclusionLists(NamedTuple):
    r"""The items that each user must not get: those of user :math:`u` are
    :obj:`item[rowptr[u]:rowptr[u + 1]]`.
    """

    rowptr: Tensor
    item: Tensor

    def of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        r"""The positions in :obj:`users` and the items excluded there."""
        start = self.rowptr[users]
        count = self.rowptr[users + 1] - start
        row = torch.arange(users.numel(), device=users.device)
        row = row.repeat_interleave(count)
        first = count.cumsum(0) - count
        offset = torch.arange(row.numel(), device=users.device) - first[row]
        return row, self.item[start[row] + offset]


def exclusion_lists(edge_index: Tensor, num_users: int) -> ExclusionLists:
    r"""Groups the items of :obj:`edge_index` by user."""
    user, order = edge_index[0].sort(stable=True)
    rowptr = user.new_zeros(num_users + 1)
    torch.cumsum(torch.bincount(user, minlength=num_users), 0, out=rowptr[1:])
    return ExclusionLists(rowptr, edge_index[1][order])


def topk_items(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = None,
    exclude: ExclusionLists | None = None,
    users: Tensor | None = None,
) -> Tensor:
    r"""The items with the :math:`k` highest scores
    :math:`\mathbf{Q} \mathbf{X}^{\top} + \mathbf{b}` of every query, in blocks
    of queries, so that the matrix of all scores is never held.

    Args:
        query (torch.Tensor): The queries :math:`\mathbf{Q}`.
        item (torch.Tensor): The items :math:`\mathbf{X}`.
        k (int): The number of items for each query.
        bias (torch.Tensor, optional): A bias :math:`\mathbf{b}` for each
            item. (default: :obj:`None`)
        exclude (ExclusionLists, optional): The items that must not be
            returned. (default: :obj:`None`)
        users (torch.Tensor, optional): The user of each query in
            :obj:`exclude`; query :math:`n` is of user :math:`n` if not
            given. (default: :obj:`None`)

    Shapes:
        - **query:** :math:`(B, F)`
        - **item:** :math:`(I, F)`
        - **bias:** :math:`(I)`
        - **output:** :math:`(B, k)`, sorted by descending score; :obj:`-1`
          where fewer than :math:`k` items are left.

    Raises:
        ValueError: If :obj:`k` is larger than the number of items.
    """
    num_items = item.size(0)
    check_k(k, num_items)
    if users is None and exclude is not None:
        users = torch.arange(query.size(0), device=query.device)

    out = torch.empty(query.size(0), k, dtype=torch.long, device=query.device)
    item_t = item.t()
    height = max(1, BLOCK_SIZE // max(num_items, 1))
    for start in range(0, query.size(0), height):
        rows = slice(start, start + height)
        if bias is None:
            score = query[rows] @ item_t
        else:
            score = torch.addmm(bias, query[rows], item_t)
        if exclude is not None:
            assert users is not None
            score[exclude.of(users[rows])] = float('-inf')
        if k == 1:  # A reduction is faster than a selection.
            value, index = score.max(dim=1, keepdim=True)
        else:
            value, index = score.topk(k, dim=1)
        if exclude is not None:
            index.masked_fill_(value == float('-inf'), -1)
        out[rows] = index
    return out
