r"""Named tensors in safetensors files, which contain no code."""

import os
from collections.abc import Mapping
from types import ModuleType

from torch import Tensor

from diffmm_geo.utils.extras import check_package


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor]
) -> None:
    r"""Writes tensors to a file."""
    _safetensors()
    from safetensors.torch import save_file

    save_file(
        {k: x.detach().cpu().contiguous() for k, x in tensors.items()},
        os.fspath(path),
    )


def read_tensors(
    path: str | os.PathLike[str], device: str = 'cpu'
) -> dict[str, Tensor]:
    r"""Reads the tensors of a file."""
    safetensors = _safetensors()
    from safetensors.torch import load_file

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{path}' does not exist")
    try:
        tensors = load_file(path, device)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"'{path}' needs to be a whole safetensors file (got: {error})"
        ) from None
    # Kernels round differently on the unaligned memory of a mapped file.
    return {name: x.clone() for name, x in tensors.items()}


def _safetensors() -> ModuleType:
    check_package('safetensors', 'safetensors', 'A .safetensors file')
    import safetensors

    return safetensors
