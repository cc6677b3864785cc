r"""Named tensors in NumPy's archives, read without executing code."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.reading import reading


def write_npz(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor]
) -> None:
    r"""Writes tensors to a file, those in bfloat16 as float32."""
    arrays: dict[str, Any] = {}
    for name, x in tensors.items():
        x = x.float() if x.dtype == torch.bfloat16 else x
        arrays[name] = x.numpy(force=True)
    with open(path, 'wb') as file:  # Given a path, NumPy adds a suffix.
        np.savez(file, **arrays)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    r"""Reads the tensors of a file."""
    with (
        reading(os.fspath(path), 'a whole .npz file of arrays'),
        np.load(path, allow_pickle=False) as arrays,
    ):
        return {name: torch.from_numpy(x) for name, x in arrays.items()}
