from collections.abc import Iterable
from itertools import repeat
from typing import Literal, overload

import torch
from torch import Tensor

from diffmm_geo.ops.product import compute_dtype, matmul
from diffmm_geo.ops.ranking.blocks import block_height
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_index,
    check_k,
    check_matrix,
    check_type,
    check_vector,
)


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
    query, item = query.to(dtype), item.to(dtype).t()
    bias = None if bias is None else bias.to(dtype)
    height = block_height(num_items, num_channels, query.device)
    if num_queries <= height:
        index, score = _topk(query, item, k, bias, exclude)
    else:
        lists: Iterable[CSR | None] = repeat(None)
        if exclude is not None:
            lists = (own for _, own in exclude.blocks(height))
        parts = [
            _topk(rows, item, k, bias, own)
            for rows, own in zip(query.split(height), lists)
        ]
        index, score = (torch.cat(x) for x in zip(*parts))
    return (index, score) if return_scores else index


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
