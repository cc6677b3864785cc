import warnings
from functools import cache

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR


def csr_tensor(pattern: CSR, value: Tensor) -> Tensor:
    r"""The :obj:`torch.sparse_csr` tensor with the given values, and indices
    of 32 bits where they fit. MKL would convert those of 64 bits in each
    product, and cuSPARSE would read twice as many bytes.
    """
    silence_sparse_csr_warnings()
    index = pattern.narrow
    # Invariants hold by construction; checking them costs a pass.
    return torch.sparse_csr_tensor(
        index.rowptr, index.col, value, pattern.size, check_invariants=False
    )


@cache
def silence_sparse_csr_warnings() -> None:
    r"""Triggers PyTorch's once-per-process warnings about sparse CSR tensors
    (their beta state and unchecked invariants) without showing them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*Sparse CSR tensor support.*')
        warnings.filterwarnings('ignore', '.*Sparse invariant checks.*')
        index = torch.zeros(2, dtype=torch.long)
        torch.sparse_csr_tensor(index, index[:0], torch.zeros(0), (1, 1))
