from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..csr_pattern import CSRPattern

# Gathered elements in flight at a time.
BLOCK_SIZE = 2**22


def sampled_product_blockwise(
    pattern: CSRPattern,
    a: Tensor,
    b: Tensor,
) -> Tensor:
    r"""The formula, a block of entries at a time."""
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
