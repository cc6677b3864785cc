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


def read_features(
    folder: str,
    modalities: Iterable[str],
    num_items: int | None = None,
    mapped: bool = False,
) -> dict[str, Tensor]:
    r"""The features of modalities, all with as many rows."""
    features: dict[str, Tensor] = {}
    for modality in modalities:
        path = osp.join(folder, feature_file(modality))
        features[modality] = x = _read_features(path, num_items, mapped)
        num_items = x.size(0)
    return features


def map_array(path: str) -> np.ndarray:
    r"""Maps a numeric :obj:`.npy` file into memory, copied on write."""
    array = np.load(path, mmap_mode='c', allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError('an archive of arrays')
    if array.dtype.kind not in 'fiub':
        raise ValueError(f'data type {array.dtype}')
    return np.asarray(array)


def _read_features(path: str, num_rows: int | None, mapped: bool) -> Tensor:
    r"""Reads a finite feature matrix from a :obj:`.npy` file, without
    unpickling, as :obj:`torch.float32`. If :obj:`mapped=True`, half and single
    precision stay on disk as they are.
    """
    expected = 'a finite, two-dimensional numeric array'
    if num_rows is not None:
        expected = f'{expected} with a row for each of the {num_rows} items'
    with reading(path, expected):
        array = map_array(path)
        shape = list(array.shape)
        if len(shape) != 2 or shape[1] == 0 or num_rows not in (None, shape[0]):
            raise ValueError(f'shape {shape}')
        if not (mapped and array.dtype in KEPT and array.flags.c_contiguous):
            with np.errstate(over='ignore'):
                array = array.astype(np.float32, order='C')
        height = max(1, BLOCK_SIZE // shape[1])
        for start in range(0, shape[0], height):
            finite = np.isfinite(array[start : start + height]).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise ValueError(
                    f'NaN or infinite values, the first in row {row}'
                )
        return torch.from_numpy(array)
