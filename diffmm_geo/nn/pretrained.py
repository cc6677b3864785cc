from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffmm_geo import __version__
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_device, check_state_dict, describe
from diffmm_geo.utils.checksum import sha256sum
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
# Counts the changes after which earlier files are read in another way.
FORMAT = 1

T = TypeVar('T', bound='Pretrained')


class Pretrained(torch.nn.Module):
    r"""The base class of modules that are saved to a folder and loaded from
    it: :obj:`config.json` has the arguments to construct the module, and
    :obj:`model.safetensors` its weights. Neither holds code to execute.

    :class:`~torch_geometric.nn.model_hub.PyGModelHubMixin` is not used, as it
    leaves out arguments other than strings and numbers, pickles the weights,
    and needs :obj:`huggingface_hub` also for a local folder. What is saved
    here can be uploaded with :obj:`huggingface_hub.upload_folder`.
    """

    @property
    def config(self) -> dict[str, Any]:
        r"""The arguments to construct the module, as JSON has them."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        r"""Constructs the module from its :obj:`config`."""
        return cls(**config)

    def save_pretrained(self, folder: str | Path) -> None:
        r"""Saves the module. A folder that another one was saved to before is
        left as it was if anything goes wrong.

        Args:
            folder (str or Path): The folder; made if missing.

        Raises:
            ImportError: If safetensors is not installed.
        """
        self._save(folder, {WEIGHTS: self.state_dict()})

    @classmethod
    def from_pretrained(
        cls: type[T],
        folder: str | Path,
        device: torch.device | str = 'cpu',
    ) -> T:
        r"""Loads what :meth:`save_pretrained` saved, in evaluation mode. The
        weights are of the type they were saved in.

        Args:
            folder (str or Path): The folder.
            device (torch.device or str, optional): Where the module is put.
                (default: :obj:`'cpu'`)

        Raises:
            FileNotFoundError: If a file is missing.
            ImportError: If safetensors is not installed.
            ValueError: If a file is not whole, is not of the last save, or
                holds something else.
        """
        device = check_device(device)
        path = Path(folder, CONFIG)
        config = cls._read_config(folder)['config']
        # Weights are neither drawn nor held twice.
        with torch.device('meta'):
            try:
                module = cls.from_config(config)
            except (
                AttributeError,
                KeyError,
                RuntimeError,  # Of sizes whose product is too large.
                TypeError,
                ValueError,
            ) as error:
                raise ValueError(
                    f"'{path}' needs the arguments of {cls.__name__} "
                    f'(got: {str(error)[:500]})'
                ) from None
        state = cls._read(folder, WEIGHTS)
        dtypes = {x.dtype for x in state.values()}
        if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
            raise ValueError(
                f"'{Path(folder, WEIGHTS)}' needs tensors of one floating "
                f'point type (got {sorted(map(str, dtypes))})'
            )
        try:
            check_state_dict(state, module.state_dict())
        except ValueError as error:
            raise ValueError(
                f"'{Path(folder, WEIGHTS)}': {str(error)[:1000]}"
            ) from None
        module.load_state_dict(state, assign=True)
        return module.to(device).eval()

    def _save(
        self,
        folder: str | Path,
        files: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        config = self.config
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # All are written before any takes its place, this one last.
            path = stack.enter_context(atomic_path(str(folder / CONFIG)))
            digests = {}
            for name, tensors in files.items():
                temporary = stack.enter_context(atomic_path(str(folder / name)))
                write_tensors(temporary, tensors)
                digests[name] = sha256sum(temporary)
            text = json.dumps(
                {
                    'library': 'diffmm_geo',
                    'version': __version__,
                    'format': FORMAT,
                    'class': type(self).__name__,
                    'config': config,
                    'sha256': digests,
                },
                indent=2,
            )
            Path(path).write_text(text + '\n', encoding='utf-8')

    @classmethod
    def _read_config(cls, folder: str | Path) -> dict[str, Any]:
        path = Path(folder, CONFIG)
        if not path.is_file():
            raise FileNotFoundError(
                f"'{path}' is not there: '{folder}' needs to be a folder "
                f'that a {cls.__name__} was saved to'
            )
        try:
            out = json.loads(path.read_text(encoding='utf-8'))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"'{path}' needs to be a whole JSON file "
                f'(got: {str(error)[:200]})'
            ) from None
        if not isinstance(out, dict) or out.get('library') != 'diffmm_geo':
            raise ValueError(
                f"'{path}' needs to be of diffmm_geo (got something else)"
            )
        if out.get('format') != FORMAT:
            raise ValueError(
                f"'{path}' needs to be of format {FORMAT} (got format "
                f'{describe(out.get("format"))}, by version '
                f'{describe(out.get("version"))}; '
                f'this is version {__version__})'
            )
        if out.get('class') != cls.__name__:
            raise ValueError(
                f"'{path}' needs to be of a {cls.__name__} "
                f'(got {describe(out.get("class"))})'
            )
        for key in ('config', 'sha256'):
            if not isinstance(out.get(key), dict):
                raise ValueError(f"'{path}' needs an object '{key}'")
        return out

    @classmethod
    def _read(cls, folder: str | Path, name: str) -> dict[str, Tensor]:
        path = Path(folder, name)
        expected = cls._read_config(folder)['sha256'].get(name)
        tensors = read_tensors(path)
        if sha256sum(str(path)) != expected:
            raise ValueError(
                f"'{path}' needs to be the file that was saved with "
                f"'{Path(folder, CONFIG)}' (got another one, or it is damaged)"
            )
        return tensors

    @staticmethod
    def _remove(folder: str | Path, name: str) -> None:
        with suppress(FileNotFoundError):
            Path(folder, name).unlink()
