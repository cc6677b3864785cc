r"""Named tensors in files that contain no code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.extras import check_package
from diffmm_geo.utils.reading import reading


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    r"""Writes tensors to a safetensors file."""
    check_package('safetensors', 'safetensors', 'A .safetensors file')
    from safetensors.torch import save_file

    tensors = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
    save_file(tensors, path)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    r"""Reads the tensors of a safetensors file."""
    check_package('safetensors', 'safetensors', 'A .safetensors file')
    from safetensors.torch import load_file

    with reading(str(path), 'a whole safetensors file'):
        tensors = load_file(path)
    # Kernels round differently on the unaligned memory of a mapped file.
    return {name: x.clone() for name, x in tensors.items()}


def write_npz(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    r"""Writes tensors to a NumPy archive, those in bfloat16 as float32."""
    arrays: dict[str, Any] = {}
    for name, x in tensors.items():
        x = x.float() if x.dtype == torch.bfloat16 else x
        arrays[name] = x.numpy(force=True)
    with open(path, 'wb') as file:  # Given a path, NumPy adds a suffix.
        np.savez(file, **arrays)


def read_npz(path: str | Path) -> dict[str, Tensor]:
    r"""Reads the tensors of a NumPy archive."""
    with (
        reading(str(path), 'a whole .npz file of arrays'),
        np.load(path, allow_pickle=False) as arrays,
    ):
        return {name: torch.from_numpy(x) for name, x in arrays.items()}
