from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from diffmm_geo.utils.checks import check_choice, check_device

from .backend import Backend
from .embedding_bag import EmbeddingBag, has_fast_kernel
from .libraries import EdgeIndexMatmul, Scatter, TorchCSR, TorchSparse
from .naive import Naive
from .triton import Triton

BACKENDS: dict[str, Backend] = {
    'naive': Naive(),
    'scatter': Scatter(),
    'torch_sparse': TorchSparse(),
    'torch_csr': TorchCSR(),
    'edge_index': EdgeIndexMatmul(),
    'embedding_bag': EmbeddingBag(),
    'triton': Triton(),
}

_chosen: ContextVar[str | None] = ContextVar('backend', default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    r"""Context manager that sets the default backend of
    :meth:`~diffmm_geo.ops.spmm` and :meth:`~diffmm_geo.ops.propagate`.
    :obj:`'triton'` also selects the Triton kernels of
    :meth:`~diffmm_geo.nn.info_nce`.

    Args:
        name (str): One of :obj:`available_backends(device)`.

    Raises:
        ValueError: If there is no backend of that name.

    Example:
        >>> import torch
        >>> from diffmm_geo.ops import SparseMatrix, backend, spmm
        >>> index = torch.arange(3)
        >>> identity = SparseMatrix.from_coo(index, index, None, (3, 3))
        >>> with backend('naive'):
        ...     spmm(identity, torch.ones(3, 1)).sum()
        tensor(3.)
    """
    token = _chosen.set(check_choice('backend', name, BACKENDS))
    try:
        yield
    finally:
        _chosen.reset(token)


def available_backends(device: torch.device | str = 'cpu') -> list[str]:
    r"""Returns the names of the backends that run on a device."""
    device = check_device(device, available=False)
    return [n for n, b in BACKENDS.items() if b.is_available(device)]


def default_backend(
    device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float
) -> str:
    r"""Returns the name of the default backend for a device and data type."""
    return _default(check_device(device, available=False), dtype)


def _default(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == 'cpu' and has_fast_kernel(dtype):
        return 'embedding_bag'
    # On a GPU this is cuSPARSE, the only backend timed on one.
    return 'torch_csr'


def chosen_backend() -> str | None:
    r"""The backend that the :meth:`backend` context sets, if any."""
    return _chosen.get()


def find_backend(
    name: str | None, device: torch.device, dtype: torch.dtype
) -> Backend:
    r"""The named backend, or that of the context, or the default."""
    name = _chosen.get() if name is None else name
    if name is None:
        return BACKENDS[_default(device, dtype)]
    found = BACKENDS[check_choice('backend', name, BACKENDS)]
    if not found.is_available(device):
        raise ValueError(
            f"'backend' needs to be one of those available on '{device}', "
            f'{available_backends(device)} (got {name!r})'
        )
    return found
