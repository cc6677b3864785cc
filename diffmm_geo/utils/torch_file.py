import pickle
import zipfile
from typing import Any

import torch

from diffmm_geo.utils.reading import reading


def load_torch_file(path: str, device: torch.device | str = 'cpu') -> Any:
    r"""Reads a file of :func:`torch.save` with tensors, containers and classes
    that PyTorch registers as safe. Nothing in it is executed.
    """
    expected = 'a whole file of tensors and plain values from torch.save'
    with reading(path, expected):
        _check_archive(path)
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except pickle.UnpicklingError as error:
            # Its message advises to execute the file, its context says why.
            raise (error.__context__ or error) from None


def _check_archive(path: str) -> None:
    # `torch.load` compares no checksums.
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"'{broken}' is damaged")
