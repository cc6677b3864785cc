import zipfile
from typing import Any, BinaryIO

import torch

from diffmm_geo.utils.expecting import expecting as expecting


def load_torch_file(path: str, device: torch.device | str = 'cpu') -> Any:
    r"""Reads a file of :func:`torch.save` that holds tensors, containers and
    classes that are registered as safe with PyTorch. Nothing in it is
    executed.

    Args:
        path (str): The file.
        device (torch.device or str, optional): The device to load tensors to.
            (default: :obj:`'cpu'`)

    Raises:
        ValueError: If the file is not such a file.
    """
    expected = 'a whole file of tensors and plain values from torch.save'
    with expecting(path, expected) as f:
        _check_archive(f)
        f.seek(0)
        return torch.load(f, map_location=device, weights_only=True)


def check_torch_archive(path: str) -> None:
    r"""Compares the content of a file of :func:`torch.save` to its checksums.

    Args:
        path (str): The file.

    Raises:
        ValueError: If the file is damaged.
    """
    with expecting(path, 'a whole file from torch.save') as f:
        _check_archive(f)


def _check_archive(f: BinaryIO) -> None:
    # `torch.load` compares no checksums.
    with zipfile.ZipFile(f) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"'{broken}' is not what was written")
