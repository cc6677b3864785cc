r"""The products of PyTorch, PyG and its extensions."""

from typing import Any

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.typing import torch_scatter

from diffmm_geo.sparse import CSR

from .backend import Backend
from .sddmm import csr_tensor, silence_sparse_csr_warnings


class TorchCSR(Backend):
    r"""A product with a :obj:`torch.sparse_csr` tensor, by MKL on CPU and by
    cuSPARSE on GPU.
    """

    def sums_half_in_float(self, device: torch.device) -> bool:
        # MKL supports single and double precision only.
        return device.type == 'cuda'

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        if value is None:
            value = pattern.ones(x.dtype)
        return csr_tensor(pattern, value) @ x


class EdgeIndexMatmul(Backend):
    r"""PyG's :meth:`torch_geometric.EdgeIndex.matmul`."""

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        silence_sparse_csr_warnings()
        if value is None:
            value = pattern.ones(x.dtype)
        out = pattern.edge_index.matmul(x, value)
        assert isinstance(out, Tensor)
        return out


class TorchSparse(Backend):
    r"""The kernel of :obj:`torch_sparse.matmul`."""

    def is_available(self, device: torch.device) -> bool:
        installed = torch_geometric.typing.WITH_TORCH_SPARSE
        return installed and _runs_on(torch.ops.torch_sparse, device)

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.torch_sparse.spmm_sum(
            None, pattern.rowptr, pattern.col, value, None, None, x
        )
        return out


class Scatter(Backend):
    r"""Gather, multiply, and :obj:`torch_scatter.segment_csr`."""

    def is_available(self, device: torch.device) -> bool:
        installed = torch_geometric.typing.WITH_TORCH_SCATTER
        return installed and _runs_on(torch.ops.torch_scatter, device)

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        message = x[pattern.col]
        if value is not None:
            message = value.view(-1, 1) * message
        out: Tensor = torch_scatter.segment_csr(
            message, pattern.rowptr, reduce='sum'
        )
        return out


def _runs_on(extension: Any, device: torch.device) -> bool:
    r"""Whether an extension's operators were built for a device."""
    # Builds without CUDA return -1.
    return device.type != 'cuda' or extension.cuda_version() != -1
