from typing import Literal, overload

import torch
from torch import Tensor

from diffmm_geo.ops.device import block_size
from diffmm_geo.ops.product import compute_dtype, matmul
from diffmm_geo.ops.topk.exclude_items import exclude_items_
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
# Items per block. Fewer items allow more queries, and a faster product.
# Selecting several items costs more than finding the highest.
MAX_BLOCK_ITEMS = 2**14
MAX_BLOCK_ITEMS_TOP_1 = 2**11


@overload
def topk_items(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = ...,
    exclude: CSR | None = ...,
    return_scores: Literal[False] = ...,
) -> Tensor: ...


@overload
def topk_items(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = ...,
    exclude: CSR | None = ...,
    *,
    return_scores: Literal[True],
) -> tuple[Tensor, Tensor]: ...


@torch.no_grad()
def topk_items(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None = None,
    exclude: CSR | None = None,
    return_scores: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Returns the :math:`k` items with the highest scores
    :math:`\mathbf{Q} \mathbf{X}^{\top} + \mathbf{b}` of each query. It computes
    the scores in blocks, in the data type of autocast, and never computes the
    full matrix.

    Args:
        query (torch.Tensor): The queries :math:`\mathbf{Q}`.
        item (torch.Tensor): The items :math:`\mathbf{X}`.
        k (int): The number of items for each query.
        bias (torch.Tensor, optional): A bias :math:`\mathbf{b}` for each
            item. (default: :obj:`None`)
        exclude (CSR, optional): The items to exclude for each query.
            (default: :obj:`None`)
        return_scores (bool, optional): Whether to return the scores, too.
            (default: :obj:`False`)

    Shapes:
        - **query:** :math:`(B, F)`
        - **item:** :math:`(I, F)`
        - **bias:** :math:`(I)`
        - **output:** :math:`(B, k)`, sorted by descending score, and padded
          with :obj:`-1`, of score :math:`-\infty`, if exclusions leave fewer
          than :math:`k` items. Equal scores come in no particular order.

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
    num_queries, num_channels = query.size()
    check_matrix(
        'item',
        item,
        None,
        num_channels,
        finite=False,
        dtype=query.dtype,
        device=query.device,
    )
    num_items = item.size(0)
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
    dtype = compute_dtype(query)
    item = item.to(dtype)
    bias = None if bias is None else bias.to(dtype)

    out = torch.empty(num_queries, k, dtype=torch.long, device=query.device)
    scores = query.new_empty(
        num_queries, k if return_scores else 0, dtype=dtype
    )
    width = MAX_BLOCK_ITEMS_TOP_1 if k == 1 else max(MAX_BLOCK_ITEMS, k)
    width = min(num_items, width)
    height = max(1, block_size(BLOCK_SIZE, query.device) // width)
    lists = exclude.blocks(height) if exclude is not None else None
    for start in range(0, num_queries, height):
        rows = slice(start, start + height)
        excluded = None
        if lists is not None:
            _, block = next(lists)
            excluded = block.row, block.col
        value, out[rows] = _topk(
            query[rows].to(dtype), item, k, bias, excluded, width
        )
        if return_scores:
            scores[rows] = value
    return (out, scores) if return_scores else out


def _topk(
    query: Tensor,
    item: Tensor,
    k: int,
    bias: Tensor | None,
    excluded: tuple[Tensor, Tensor] | None,
    width: int,
) -> tuple[Tensor, Tensor]:
    r"""Merges the top items of a block of queries over blocks of items."""
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, item.size(0), width):
        stop = min(start + width, item.size(0))
        score = matmul(
            query,
            item[start:stop].t(),
            None if bias is None else bias[start:stop],
        )
        if excluded is not None:
            exclude_items_(score, *excluded, start, item.size(0))
        found = _select(score, min(k, stop - start))
        found = found[0], found[1] + start
        if best is not None:
            # A stable sort keeps the first of equal items first.
            value, index = (torch.cat(x, 1) for x in zip(best, found))
            value, order = value.sort(dim=1, descending=True, stable=True)
            order = order[:, :k]
            found = value[:, :k], index.gather(1, order)
        best = found
    assert best is not None
    value, index = best
    if excluded is not None:
        index = index.masked_fill(value == float('-inf'), -1)
    return value, index


def _select(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k == 1:  # A reduction is faster than a selection.
        value, index = score.max(dim=1, keepdim=True)
    else:
        value, index = score.topk(k, dim=1)
    return value, index
