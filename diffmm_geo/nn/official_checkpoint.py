import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from diffmm_geo.nn.modality_name import module_name
from diffmm_geo.utils.checks import tensors_of
from diffmm_geo.utils.expecting import expecting
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.torch_file import check_torch_archive

# The classes of the authors' `Model.py`, and PyTorch's own modules.
MODULES = re.compile(
    r'Model\.(Model|Denoise|GaussianDiffusion|GCNLayer|SpAdjDropEdge)'
    r'|torch\.nn\.modules\.[a-z_]+\.[A-Z][A-Za-z0-9]*'
)


def load_official_checkpoint(path: str | Path) -> dict[str, Any]:
    r"""Loads a checkpoint of the `authors' code
    <https://github.com/HKUDS/DiffMM>`_ to the CPU, for
    :meth:`diffmm_geo.nn.DiffMM.load_official_state_dict` and
    :meth:`diffmm_geo.nn.Denoiser.load_official_state_dict`.

    The file holds a state dictionary, a whole module, or a dictionary or list
    of these, written by :func:`torch.save`. (The published code does not save
    models.) Whole modules load without their classes: only parameters and
    buffers are read, and nothing in the file is imported or called.

    .. code-block:: python

        # Saved by
        #   torch.save({'model': coach.model,
        #               'image': coach.denoise_model_image}, 'diffmm.pt')
        saved = load_official_checkpoint('diffmm.pt')
        model.load_official_state_dict(saved['model'])
        diffusion.denoisers['image'].load_official_state_dict(saved['image'])

    Args:
        path (str or Path): The file.

    Returns:
        The content, with a state dictionary in place of each module.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, older than PyTorch 1.6, or uses
            classes other than the modules of the authors and of PyTorch.
    """
    path = str(check_path('path', path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{path}': expected a checkpoint, got no file")
    with expecting(
        path,
        "modules or state dictionaries of the authors' code, saved by "
        'torch.save',
        f'a file of {os.path.getsize(path)} bytes that holds none',
    ):
        if not zipfile.is_zipfile(path):
            raise ValueError('not an archive as PyTorch writes it since 1.6')
        check_torch_archive(path)
        names = get_unsafe_globals_in_checkpoint(path)
        others = [name for name in names if MODULES.fullmatch(name) is None]
        if others:
            raise ValueError(f'{others} are not allowed')
        with safe_globals([(_Module, name) for name in names]):
            content = torch.load(path, map_location='cpu', weights_only=True)
        out = _to_state_dict(content)
        if not isinstance(out, dict):
            raise ValueError(f'an object of type {type(content).__name__}')
    return out


def from_official_names(
    state_dict: Mapping[str, Tensor], modalities: Sequence[str], like: Tensor
) -> dict[str, Tensor]:
    r"""Renames the parameters of the authors' model to those of DiffMM."""
    names = {
        'uEmbeds': 'user_emb.weight',
        'iEmbeds': 'item_emb.weight',
        'modal_weight': 'conv.modality_weight',
    }
    for m in modalities:
        ours = f'projections.{module_name(m)}'
        names[f'{m}_trans'] = f'{ours}.weight'
        names[f'{m}_trans.weight'] = f'{ours}.weight'
        names[f'{m}_trans.bias'] = f'{ours}.bias'
    tensors = tensors_of('state_dict', state_dict, like)
    return {names.get(key, key): x for key, x in tensors.items()}


class _Module:
    r"""Stands in for a module of any class and holds its attributes."""


def _to_state_dict(value: Any) -> Any:
    if isinstance(value, _Module):
        return _module_state_dict(value)
    if isinstance(value, dict):
        return {key: _to_state_dict(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return dict(enumerate(map(_to_state_dict, value)))
    return value


def _module_state_dict(module: _Module, prefix: str = '') -> dict[str, Tensor]:
    # As `torch.nn.Module.state_dict`.
    state = vars(module)
    skipped = state.get('_non_persistent_buffers_set', ())
    out = {
        prefix + name: x.detach()
        for name, x in {**state['_parameters'], **state['_buffers']}.items()
        if isinstance(x, Tensor) and name not in skipped
    }
    for name, child in state['_modules'].items():
        if child is not None:
            out.update(_module_state_dict(child, f'{prefix}{name}.'))
    return out
