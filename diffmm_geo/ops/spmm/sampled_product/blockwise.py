from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..csr_pattern import CSRPattern

# Gathered elements in flight at a time.
BLOCK_SIZE = 2**22


def sampled_product(pattern: CSRPattern, a: Tensor, b: Tensor) -> Tensor:
    r"""The entries of :math:`\mathbf{A} \mathbf{B}^{\top}` where
    :obj:`pattern` has its own, in CSR order: the gradient of a product with
    respect to the values. Half precision is summed up in single, in which
    the result is.

    Shapes:
        - **a:** :math:`(N, F)`
        - **b:** :math:`(M, F)`
        - **output:** :math:`(E)`
    """
    row, col = pattern.row, pattern.col
    block = max(1, BLOCK_SIZE // max(1, a.size(1)))
    dtype = torch.promote_types(a.dtype, torch.float)
    return torch.cat(
        [
            torch.linalg.vecdot(
                a[row[i : i + block]].to(dtype),
                b[col[i : i + block]].to(dtype),
            )
            for i in range(0, max(1, col.numel()), block)
        ]
    )
