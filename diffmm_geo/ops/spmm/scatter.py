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

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        message = value.view(-1, 1) * x[pattern.col]
        return torch_scatter.segment_csr(message, pattern.rowptr, reduce='sum')
