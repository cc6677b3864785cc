from __future__ import annotations

import torch
from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern
from .sparse_csr_warnings import silence_sparse_csr_warnings


class TorchCSR(Backend):
    r"""A product with a :obj:`torch.sparse_csr` tensor: MKL on CPU, cuSPARSE
    on GPU.
    """

    def sums_half_in_float(self, device: torch.device) -> bool:
        # MKL knows single and double precision only.
        return device.type == 'cuda'

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        silence_sparse_csr_warnings()
        if value is None:
            value = pattern.ones(x.dtype)
        # Invariants hold by construction; to check them costs a pass.
        matrix = torch.sparse_csr_tensor(
            pattern.rowptr,
            pattern.col,
            value,
            pattern.size,
            check_invariants=False,
        )
        return matrix @ x
