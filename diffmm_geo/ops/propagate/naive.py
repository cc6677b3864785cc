from __future__ import annotations

import torch
from torch import Tensor

from diffmm_geo.sparse import BipartiteAdj, SparseMatrix


def propagate_naive(
    adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The readable reference of :meth:`~diffmm_geo.ops.propagate`: gather,
    multiply, sum and add self-loops, with gradients by autograd.
    """
    to_user, to_item = adj.matrices()
    return (
        _aggregate(to_user, x_item, adj.user_loop, x_user),
        _aggregate(to_item, x_user, adj.item_loop, x_item),
    )


def _aggregate(
    matrix: SparseMatrix, x_src: Tensor, loop: Tensor | None, x_dst: Tensor
) -> Tensor:
    dtype = torch.promote_types(x_src.dtype, torch.float)
    # Cast before the gather, so that its backward sums in this type as well.
    message = x_src.to(dtype)[..., matrix.pattern.col, :]
    if matrix.value is not None:
        message = matrix.value.to(dtype).view(-1, 1) * message
    size = (*x_src.size()[:-2], matrix.size[0], x_src.size(-1))
    out = message.new_zeros(size)
    out = out.index_add(-2, matrix.pattern.row, message)
    if loop is not None:
        out = out + loop.to(dtype).view(-1, 1) * x_dst.to(dtype)
    return out.to(x_src.dtype)
