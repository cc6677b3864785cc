r"""Named tensors in safetensors files, which contain no code."""

import os
from collections.abc import Mapping

from torch import Tensor

from diffmm_geo.utils.extras import check_package


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor]
) -> None:
    r"""Writes tensors to a file."""
    check_package('safetensors', 'safetensors', 'A .safetensors file')
    from safetensors.torch import save_file

    tensors = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
    save_file(tensors, os.fspath(path))


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    r"""Reads the tensors of a file."""
    check_package('safetensors', 'safetensors', 'A .safetensors file')
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{path}' does not exist")
    try:
        tensors = load_file(os.fspath(path))
    except SafetensorError as error:
        raise ValueError(
            f"'{path}' needs to be a whole safetensors file (got: {error})"
        ) from None
    # Kernels round differently on the unaligned memory of a mapped file.
    return {name: x.clone() for name, x in tensors.items()}
