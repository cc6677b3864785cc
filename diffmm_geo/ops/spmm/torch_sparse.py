from __future__ import annotations

import torch
import torch_geometric.typing
from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern
from .runs_on import runs_on


class TorchSparse(Backend):
    r"""The kernel of :obj:`torch_sparse.matmul`."""

    def is_available(self, device: torch.device) -> bool:
        installed = torch_geometric.typing.WITH_TORCH_SPARSE
        return installed and runs_on(torch.ops.torch_sparse, device)

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        out: Tensor = torch.ops.torch_sparse.spmm_sum(
            None, pattern.rowptr, pattern.col, value, None, None, x
        )
        return out
