from collections.abc import Callable

import torch
from torch import Tensor

from diffmm_geo.ops.dense import compute_dtype, matmul

CHUNK_SIZE = 2**16
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def product_scorer(
    user_emb: Tensor, item_emb: Tensor
) -> Callable[[Tensor], Tensor]:
    r"""Scores all items for users, by the product of embeddings. Items of equal
    embeddings get equal scores, which a product alone does not guarantee: its
    rounding depends on an item's place.
    """
    dtype = compute_dtype(item_emb)
    item = item_emb.to(dtype)
    group, first = equal_rows(item)
    has_equal = first.numel() < item.size(0)
    item = item[first].t() if has_equal else item.t()

    def scorer(users: Tensor) -> Tensor:
        score = matmul(user_emb[users].to(dtype), item)
        return score.index_select(1, group) if has_equal else score

    return scorer


def equal_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Groups the equal rows of a matrix.

    Shapes:
        - **x:** :math:`(N, F)`
        - **output:** the group of each row, :math:`(N)`, and a row of each
          group, :math:`(G)`
    """
    bits = x.contiguous().view(INTEGERS[x.element_size()])
    rows = torch.arange(x.size(0), device=x.device)
    # A row's key is the sum of its bits times random words.
    generator = torch.Generator(x.device).manual_seed(0)
    word = torch.randint(
        -(2**62), 2**62, (x.size(1),), generator=generator, device=x.device
    )
    chunks = bits.split(CHUNK_SIZE)
    key = torch.cat([(chunk * word).sum(dim=1) for chunk in chunks])
    distinct, group = key.unique(return_inverse=True)
    if distinct.numel() == x.size(0):
        return rows, rows
    first = rows.new_full(distinct.size(), x.size(0))
    first = first.scatter_reduce(0, group, rows, 'amin')
    # Keys may collide, so rows are compared as well.
    equal = all(
        chunk.equal(bits[first[part]])
        for chunk, part in zip(chunks, group.split(CHUNK_SIZE))
    )
    return (group, first) if equal else (rows, rows)
