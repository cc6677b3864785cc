import torch
import torch_geometric.typing
from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern


class TorchSparse(Backend):
    r"""The kernel of :obj:`torch_sparse.matmul`."""

    def is_available(self, device: torch.device) -> bool:
        if not torch_geometric.typing.WITH_TORCH_SPARSE:
            return False
        # A build without CUDA says -1.
        version = torch.ops.torch_sparse.cuda_version
        return device.type != 'cuda' or version() != -1

    def matmul(self, pattern: CSRPattern, value: Tensor, x: Tensor) -> Tensor:
        return torch.ops.torch_sparse.spmm_sum(
            None, pattern.rowptr, pattern.col, value, None, None, x
        )
