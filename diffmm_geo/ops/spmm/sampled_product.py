import torch
from torch import Tensor

from .csr_pattern import CSRPattern

# Gathered elements in flight at a time.
BLOCK_SIZE = 2**22


def sampled_product(pattern: CSRPattern, a: Tensor, b: Tensor) -> Tensor:
    r"""The entries of :math:`\mathbf{A} \mathbf{B}^{\top}` where
    :obj:`pattern` has its own, in CSR order: the gradient of a product with
    respect to the values.

    Shapes:
        - **a:** :math:`(N, F)`
        - **b:** :math:`(M, F)`
        - **output:** :math:`(E)`
    """
    row, col = pattern.row, pattern.col
    block = max(1, BLOCK_SIZE // max(1, a.size(1)))
    return torch.cat(
        [
            torch.linalg.vecdot(a[row[i : i + block]], b[col[i : i + block]])
            for i in range(0, max(1, col.numel()), block)
        ]
    )
