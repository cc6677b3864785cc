import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_device
from diffmm_geo.utils.checksum import sha256sum
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'

T = TypeVar('T', bound='Pretrained')


class Pretrained(torch.nn.Module):
    r"""Base class of modules that save to a folder and load from it. The file
    :obj:`config.json` holds constructor arguments, and
    :obj:`model.safetensors` holds weights. Neither contains code.

    The mixins of :obj:`huggingface_hub` and of PyG need that package even for
    a local folder. :obj:`huggingface_hub.upload_folder` uploads what is saved
    here.
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
        device = check_device(device)
        config, state = read_folder(folder, WEIGHTS, cls)
        dtypes = {x.dtype for x in state.values()}
        try:
            with torch.device('meta'):  # Draws no weights.
                module = cls.from_config(config)
            if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
                raise ValueError(f"not one floating point type but '{dtypes}'")
            module.load_state_dict(state, assign=True)
        except (
            *(AttributeError, KeyError, TypeError, ValueError),
            RuntimeError,  # For other weights, and if sizes overflow.
        ) as error:
            raise ValueError(
                f"'{folder}' needs the arguments and the weights of a "
                f'{cls.__name__} (got: {str(error)[:1000]})'
            ) from None
        return module.to(device).eval()


def write_folder(
    folder: str | Path,
    module: Pretrained,
    files: Mapping[str, Mapping[str, Tensor]],
) -> None:
    r"""Writes all files, then replaces earlier files."""
    content: dict[str, Any] = {**_header(type(module)), 'config': module.config}
    folder = check_path('folder', folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # The first path on the stack is replaced last.
        path = stack.enter_context(atomic_path(str(folder / CONFIG)))
        content['sha256'] = {}
        for name, tensors in files.items():
            temporary = stack.enter_context(atomic_path(str(folder / name)))
            write_tensors(temporary, tensors)
            content['sha256'][name] = sha256sum(temporary)
        Path(path).write_text(json.dumps(content, indent=2), encoding='utf-8')


def read_folder(
    folder: str | Path, name: str, cls: type[Pretrained]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""The constructor arguments, and a file of tensors."""
    folder = check_path('folder', folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"'{folder / CONFIG}' does not exist: 'folder' needs to be that of "
            f'a saved {cls.__name__}'
        )
    try:
        content = json.loads((folder / CONFIG).read_text(encoding='utf-8'))
        found = {key: content[key] for key in _header(cls)}
        if found != _header(cls):
            raise ValueError(str(found)[:200])
        config, digest = dict(content['config']), dict(content['sha256'])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{folder / CONFIG}' needs to be a complete JSON file with "
            f'{_header(cls)} (got: {str(error)[:200]})'
        ) from None
    tensors = read_tensors(folder / name)
    if sha256sum(str(folder / name)) != digest.get(name):
        raise ValueError(
            f"'{folder / name}' needs to be the file saved with '{CONFIG}' "
            f'(got another or a damaged file)'
        )
    return config, tensors


def _header(cls: type[Pretrained]) -> dict[str, Any]:
    # The format increases when earlier files need another reader.
    return {'library': 'diffmm_geo', 'format': 1, 'class': cls.__name__}
