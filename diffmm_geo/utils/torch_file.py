import zipfile
from typing import Any, BinaryIO

import torch

from diffmm_geo.utils.expecting import expecting


def load_torch_file(path: str, device: torch.device | str = 'cpu') -> Any:
    r"""Reads a file of :func:`torch.save` with tensors, containers and classes
    that PyTorch registers as safe. Nothing in it is executed.
    """
    expected = 'a whole file of tensors and plain values from torch.save'
    with expecting(path, expected) as f:
        _check_archive(f)
        f.seek(0)
        return torch.load(f, map_location=device, weights_only=True)


def _check_archive(f: BinaryIO) -> None:
    # `torch.load` compares no checksums.
    with zipfile.ZipFile(f) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"'{broken}' is damaged")
