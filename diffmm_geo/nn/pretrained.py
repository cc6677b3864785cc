from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffmm_geo import __version__
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_device, check_state_dict, describe
from diffmm_geo.utils.checksum import sha256sum
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
# Increases if earlier files need another reader.
FORMAT = 1

T = TypeVar('T', bound='Pretrained')


class Pretrained(torch.nn.Module):
    r"""Base class of modules that save to a folder and load from it. The file
    :obj:`config.json` holds constructor arguments, and
    :obj:`model.safetensors` holds weights. Neither contains code.

    PyG's :class:`~torch_geometric.nn.model_hub.PyGModelHubMixin` saves only
    strings and numbers, pickles the weights, and needs :obj:`huggingface_hub`
    even for a local folder. :obj:`huggingface_hub.upload_folder` uploads a
    folder saved here.
    """

    @property
    def config(self) -> dict[str, Any]:
        r"""The constructor arguments, as JSON values."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        r"""Constructs the module from its :obj:`config`."""
        return cls(**config)

    def save_pretrained(self, folder: str | Path) -> None:
        r"""Saves the module. A failure leaves an earlier save unchanged.

        Args:
            folder (str or Path): The folder, created if missing.

        Raises:
            ImportError: If safetensors is not installed.
        """
        write_folder(folder, self, {WEIGHTS: self.state_dict()})

    @classmethod
    def from_pretrained(
        cls: type[T], folder: str | Path, device: torch.device | str = 'cpu'
    ) -> T:
        r"""Loads a module saved by :meth:`save_pretrained`, in evaluation
        mode and in the data type of the saved weights.

        Args:
            folder (str or Path): The folder.
            device (torch.device or str, optional): The device of the module.
                (default: :obj:`'cpu'`)

        Raises:
            FileNotFoundError: If a file is missing.
            ImportError: If safetensors is not installed.
            ValueError: If a file is damaged, comes from another save, or
                belongs to another class.
        """
        device, folder = check_device(device), check_path('folder', folder)
        config = read_config(folder, cls)['config']
        # The device 'meta' skips the initialization of weights.
        with torch.device('meta'):
            try:
                module = cls.from_config(config)
            except (
                AttributeError,
                KeyError,
                RuntimeError,  # If the product of sizes overflows.
                TypeError,
                ValueError,
            ) as error:
                raise ValueError(
                    f"'{Path(folder, CONFIG)}' needs the arguments of "
                    f'{cls.__name__} (got: {str(error)[:500]})'
                ) from None
        state, path = read_file(folder, WEIGHTS, cls), Path(folder, WEIGHTS)
        dtypes = {x.dtype for x in state.values()}
        if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
            raise ValueError(
                f"'{path}' needs tensors of one floating point type "
                f'(got {sorted(map(str, dtypes))})'
            )
        try:
            check_state_dict(state, module.state_dict())
        except ValueError as error:
            raise ValueError(f"'{path}': {str(error)[:1000]}") from None
        module.load_state_dict(state, assign=True)
        return module.to(device).eval()


def write_folder(
    folder: str | Path,
    module: Pretrained,
    files: Mapping[str, Mapping[str, Tensor]],
) -> None:
    r"""Writes all files, then replaces earlier files."""
    config, folder = module.config, check_path('folder', folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # The first path on the stack is replaced last.
        path = stack.enter_context(atomic_path(str(folder / CONFIG)))
        digests = {}
        for name, tensors in files.items():
            temporary = stack.enter_context(atomic_path(str(folder / name)))
            write_tensors(temporary, tensors)
            digests[name] = sha256sum(temporary)
        content = {
            'library': 'diffmm_geo',
            'version': __version__,
            'format': FORMAT,
            'class': type(module).__name__,
            'config': config,
            'sha256': digests,
        }
        text = json.dumps(content, indent=2)
        Path(path).write_text(text + '\n', encoding='utf-8')


def read_config(folder: str | Path, cls: type[Pretrained]) -> dict[str, Any]:
    r"""Reads the :obj:`config.json` of a module of class :obj:`cls`."""
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise FileNotFoundError(
            f"'{path}' does not exist: '{folder}' needs to be the folder of a "
            f'saved {cls.__name__}'
        )
    try:
        out = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"'{path}' needs to be a complete JSON file "
            f'(got: {str(error)[:200]})'
        ) from None
    if not isinstance(out, dict):
        raise ValueError(f"'{path}' needs an object (got {describe(out)})")
    expected = {
        'library': 'diffmm_geo',
        'format': FORMAT,
        'class': cls.__name__,
    }
    for key, value in expected.items():
        if out.get(key) != value:
            raise ValueError(
                f"'{path}' needs '{key}' to be {value!r} "
                f'(got {describe(out.get(key))}, written by version '
                f'{describe(out.get("version"))}; this is {__version__})'
            )
    for key in ('config', 'sha256'):
        if not isinstance(out.get(key), dict):
            raise ValueError(
                f"'{path}' needs '{key}' to be an object "
                f'(got {describe(out.get(key))})'
            )
    return out


def read_file(
    folder: str | Path, name: str, cls: type[Pretrained]
) -> dict[str, Tensor]:
    r"""Reads a file of tensors written by :func:`write_folder`."""
    path = Path(folder, name)
    expected = read_config(folder, cls)['sha256'].get(name)
    tensors = read_tensors(path)
    if sha256sum(str(path)) != expected:
        raise ValueError(
            f"'{path}' needs to be the file saved with "
            f"'{Path(folder, CONFIG)}' (got another or a damaged file)"
        )
    return tensors
