import warnings
from functools import cache

import torch


@cache
def silence_sparse_csr_warnings() -> None:
    r"""Lets torch say, unheard, what it says of CSR tensors once a process:
    that they are in beta state, and not checked for what holds here by
    construction.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*Sparse CSR tensor support.*')
        warnings.filterwarnings('ignore', '.*Sparse invariant checks.*')
        torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.long),
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0),
            (1, 1),
        )
