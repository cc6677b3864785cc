r"""Files of features, one for each modality."""

import os
import os.path as osp
import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.reading import reading

# Data types of features that may stay on disk.
KEPT = (np.dtype('<f2'), np.dtype('<f4'))
BLOCK_SIZE = 2**22


def feature_file(modality: str) -> str:
    r"""The name of a modality's feature file."""
    return f'{modality}_feat.npy'


def find_modalities(folder: str) -> list[str]:
    r"""The modalities with features in a folder, in alphabetical order."""
    matches = (
        # Hidden files are no data, such as those of macOS on other disks.
        re.fullmatch(r'([^.].*)_feat\.npy', name)
        for name in os.listdir(folder)
    )
    return sorted(match[1] for match in matches if match is not None)


def select_modalities(
    modalities: Sequence[str] | None, known: Sequence[str]
) -> tuple[str, ...]:
    r"""Checks modalities (default: all) and returns them in the order of
    :obj:`known`.
    """
    if modalities is None:
        return tuple(known)
    if not isinstance(modalities, (list, tuple)) or any(
        modalities.count(name) > (name in known) for name in modalities
    ):
        raise ValueError(
            f"'modalities' needs distinct names out of {list(known)} "
            f'(got {modalities!r})'
        )
    return tuple(name for name in known if name in modalities)


def map_array(path: str) -> np.ndarray:
    r"""Maps a numeric :obj:`.npy` file into memory, copied on write."""
    array = np.load(path, mmap_mode='c', allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError('an archive of arrays')
    if array.dtype.kind not in 'fiub':
        raise ValueError(f'data type {array.dtype}')
    return np.asarray(array)


def read_features(
    folder: str,
    modalities: Iterable[str],
    num_items: int | None = None,
    mapped: bool = False,
) -> dict[str, Tensor]:
    r"""Reads finite features of modalities, all with as many rows, from
    :obj:`.npy` files without unpickling, as :obj:`torch.float32`. If
    :obj:`mapped=True`, half and single precision stay on disk as they are.
    """
    features: dict[str, Tensor] = {}
    for modality in modalities:
        path, needed = osp.join(folder, feature_file(modality)), ''
        if num_items is not None:
            needed = f' with a row for each of the {num_items} items'
        with reading(path, f'a finite, two-dimensional numeric array{needed}'):
            array = map_array(path)
            shape = list(array.shape)
            if (
                len(shape) != 2
                or shape[1] == 0
                or num_items not in (None, shape[0])
            ):
                raise ValueError(f'shape {shape}')
            kept = array.dtype in KEPT and array.flags.c_contiguous
            if not (mapped and kept):
                with np.errstate(over='ignore'):
                    array = array.astype(np.float32, order='C')
            _check_finite(array)
            features[modality] = torch.from_numpy(array)
        num_items = shape[0]
    return features


def _check_finite(array: np.ndarray) -> None:
    height = max(1, BLOCK_SIZE // array.shape[1])
    for start in range(0, array.shape[0], height):
        finite = np.isfinite(array[start : start + height]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise ValueError(f'NaN or infinite values, the first in row {row}')
