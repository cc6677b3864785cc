from __future__ import annotations

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.typing import torch_scatter

from .backend import Backend
from .csr_pattern import CSRPattern
from .runs_on import runs_on


class Scatter(Backend):
    r"""Gather, multiply, and :obj:`torch_scatter.segment_csr`."""

    def is_available(self, device: torch.device) -> bool:
        installed = torch_geometric.typing.WITH_TORCH_SCATTER
        return installed and runs_on(torch.ops.torch_scatter, device)

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        message = x[pattern.col]
        if value is not None:
            message = value.view(-1, 1) * message
        out: Tensor = torch_scatter.segment_csr(
            message, pattern.rowptr, reduce='sum'
        )
        return out
