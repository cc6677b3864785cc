import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.typing import torch_scatter

from .backend import Backend
from .csr_pattern import CSRPattern


class Scatter(Backend):
    r"""Gather, multiply, and :obj:`torch_scatter.segment_csr`."""

    def is_available(self, device: torch.device) -> bool:
        if not torch_geometric.typing.WITH_TORCH_SCATTER:
            return False
        # A build without CUDA says -1.
        version = torch.ops.torch_scatter.cuda_version
        return device.type != 'cuda' or version() != -1

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        message = value.view(-1, 1) * x[pattern.col]
        return torch_scatter.segment_csr(message, pattern.rowptr, reduce='sum')
