from collections.abc import Iterable
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.dense import block_size, compute_dtype, matmul
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_index,
    check_k,
    check_matrix,
    check_type,
    check_vector,
)

# Scores in flight at a time on a CPU: 16 MiB in float32.
BLOCK_SIZE = 2**22
# A product of fewer rows is slower, as it reads all items for them.
MIN_ROWS = 128


def block_height(
    num_items: int, num_channels: int, device: torch.device
) -> int:
    r"""The number of rows of scores to hold at a time. A block of many items
    holds at most as many scores as the items have elements.
    """
    height = block_size(BLOCK_SIZE, device) // num_items
    return max(1, height, min(num_channels, MIN_ROWS))


@torch.no_grad()
def topk_items(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = None,
    exclude: CSR | None = None,
) -> Tensor:
    r"""Returns the :math:`k` items with the highest scores
    :math:`\mathbf{Q} \mathbf{X}^{\top} + \mathbf{b}` of each query. It computes
    the scores of some queries at a time, in the data type of autocast. On a
    CPU, these take 16 MiB, or the memory of the items if that is more.

    Args:
        query (torch.Tensor): The queries :math:`\mathbf{Q}`.
        item (torch.Tensor): The items :math:`\mathbf{X}`.
        k (int): The number of items for each query.
        bias (torch.Tensor, optional): A bias :math:`\mathbf{b}` for each
            item. (default: :obj:`None`)
        exclude (CSR, optional): The items to exclude for each query.
            (default: :obj:`None`)

    Shapes:
        - **query:** :math:`(B, F)`
        - **item:** :math:`(I, F)`
        - **bias:** :math:`(I)`
        - **output:** :math:`(B, k)`, sorted by descending score, and padded
          with :obj:`-1` if exclusions leave fewer than :math:`k` items. Equal
          scores come in no particular order.

    Raises:
        ValueError: If shapes, types or devices do not match, or :obj:`k`
            exceeds the number of items.

    Example:
        >>> import torch
        >>> from diffmm_geo.ops import topk_items
        >>> query = torch.tensor([[1.0], [-1.0]])
        >>> item = torch.tensor([[1.0], [3.0], [2.0]])
        >>> topk_items(query, item, k=2)
        tensor([[1, 2],
                [0, 2]])
    """
    check_matrix('query', query, finite=False)
    check_matrix('item', item, None, query.size(1), like=query)
    num_queries, num_items = query.size(0), item.size(0)
    k = check_k(k, num_items)
    if bias is not None:
        check_vector('bias', bias, num_items, query.device)
    if exclude is not None:
        check_type('exclude', exclude, CSR)
        check_index('exclude', exclude.col, num_items, query.device)
        if exclude.size != (num_queries, num_items):
            raise ValueError(
                f"'exclude' needs to be of size [num_queries, num_items] = "
                f'{[num_queries, num_items]} (got {list(exclude.size)})'
            )
    index, _ = top_scores(query, item, k, bias, exclude)
    return index


def top_scores(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = None,
    exclude: CSR | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The items of :func:`~diffmm_geo.ops.topk_items` and their scores,
    without checks.
    """
    dtype = compute_dtype(query)
    query, item = query.to(dtype), item.to(dtype).t()
    bias = None if bias is None else bias.to(dtype)
    height = block_height(item.size(1), item.size(0), query.device)
    if query.size(0) <= height:
        return _topk(query, item, k, bias, exclude)
    lists: Iterable[CSR | None] = repeat(None)
    if exclude is not None:
        lists = (own for _, own in exclude.blocks(height))
    # Results that outlive a block would split the memory of the next.
    index = query.new_empty(query.size(0), k, dtype=torch.long)
    score = query.new_empty(query.size(0), k)
    blocks = zip(
        query.split(height), lists, index.split(height), score.split(height)
    )
    for rows, own, *out in blocks:
        for target, found in zip(out, _topk(rows, item, k, bias, own)):
            target.copy_(found)
    return index, score


def _topk(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None,
    exclude: CSR | None,
) -> tuple[Tensor, Tensor]:
    score = matmul(query, item, bias)
    if exclude is not None:
        score[exclude.row, exclude.col] = float('-inf')
    # A reduction is faster than a selection.
    value, index = score.max(1, keepdim=True) if k == 1 else score.topk(k)
    if exclude is not None:
        index.masked_fill_(value == float('-inf'), -1)
    return index, value


@torch.no_grad()
def topk_among(
    kept: Tensor | None,
    query: Tensor,
    item: Tensor,
    k: int,
    exclude: CSR | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The :func:`~diffmm_geo.ops.topk_items` and their scores among the items
    where :obj:`kept` is true, padded to :math:`k`.
    """
    if kept is None:
        return top_scores(query, item, k, exclude=exclude)
    candidates = kept.nonzero().view(-1)
    length = min(k, candidates.numel())
    if length == 0:
        index = query.new_empty(query.size(0), 0, dtype=torch.long)
        score = query.new_empty(query.size(0), 0)
    else:
        part = None if exclude is None else exclude.take_columns(candidates)
        index, score = top_scores(query, item[candidates], length, exclude=part)
        index = torch.where(index < 0, index, candidates[index])
    pad = 0, k - length
    return F.pad(index, pad, value=-1), F.pad(score, pad, value=float('-inf'))
