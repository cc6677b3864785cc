r"""Names of modalities and their feature files."""

import os
import os.path as osp
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from diffmm_geo.utils.atomic import atomic_path


def select_modalities(
    modalities: Sequence[str],
    known: Sequence[str],
    where: str = '',
) -> tuple[str, ...]:
    r"""Checks modalities and returns them in the order of :obj:`known`."""
    if isinstance(modalities, str):
        raise ValueError(
            f"'modalities' is expected to be a list or tuple of names, got "
            f'the string {modalities!r}'
        )
    unknown = [name for name in modalities if name not in known]
    if unknown:
        raise ValueError(
            f"'modalities' is expected to hold names out of {list(known)}"
            f'{where}, got {unknown}'
        )
    if len(set(modalities)) != len(modalities):
        raise ValueError(
            f"'modalities' is expected to hold each name once, got "
            f'{list(modalities)}'
        )
    return tuple(name for name in known if name in modalities)


def feature_file(modality: str) -> str:
    r"""The name of a modality's feature file."""
    return f'{modality}_feat.npy'


def find_modalities(folder: str) -> list[str]:
    r"""The modalities with features in a folder, in alphabetical order."""
    matches = (
        re.fullmatch(r'(\w+)_feat\.npy', name) for name in os.listdir(folder)
    )
    return sorted(match[1] for match in matches if match is not None)


def check_feature_files(folder: str, features: Mapping[str, object]) -> None:
    r"""Checks that a folder can hold exactly these modalities."""
    for modality in features:
        if re.fullmatch(r'\w+', modality) is None:
            raise ValueError(
                f"'data' is expected to have modality names of letters, digits "
                f'and underscores, as they name files, got {modality!r}'
            )
    known = find_modalities(folder) if osp.isdir(folder) else []
    others = [feature_file(m) for m in known if m not in features]
    if others:
        raise FileExistsError(
            f"'{folder}' holds {others}, which would be read as features of "
            f"'data' besides {list(features)}: remove them, or choose another "
            f'folder'
        )


def write_features(
    stack: ExitStack,
    folder: str,
    features: Mapping[str, np.ndarray],
) -> None:
    r"""Writes feature files, which appear on the exit of the stack."""
    for modality, x in features.items():
        path = osp.join(folder, feature_file(modality))
        with open(stack.enter_context(atomic_path(path)), 'wb') as f:
            np.save(f, x, allow_pickle=False)
