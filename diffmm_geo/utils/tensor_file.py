r"""Named tensors in a safetensors file, which holds no code to execute."""

import os
from collections.abc import Mapping
from types import ModuleType

from torch import Tensor


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
) -> None:
    r"""Writes tensors to a file.

    Args:
        path (str or Path): The file.
        tensors (dict[str, torch.Tensor]): The tensors.

    Raises:
        ImportError: If safetensors is not installed.
    """
    _safetensors()
    from safetensors.torch import save_file

    save_file(
        {k: x.detach().cpu().contiguous() for k, x in tensors.items()},
        os.fspath(path),
    )


def read_tensors(
    path: str | os.PathLike[str],
    device: str = 'cpu',
) -> dict[str, Tensor]:
    r"""Reads the tensors of a file.

    Args:
        path (str or Path): The file.
        device (str, optional): Where they are put. (default: :obj:`"cpu"`)

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is not installed.
        ValueError: If it is not a whole safetensors file.
    """
    safetensors = _safetensors()
    from safetensors.torch import load_file

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{path}' is not there")
    try:
        tensors = load_file(path, device)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"'{path}' needs to be a whole safetensors file (got: {error})"
        ) from None
    # What is mapped from the file is not aligned as other tensors are, and
    # kernels then round in another way.
    return {name: x.clone() for name, x in tensors.items()}


def _safetensors() -> ModuleType:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            'safetensors is needed to save and load models: pip install '
            "'diffmm_geo[safetensors]'"
        ) from None
    return safetensors
