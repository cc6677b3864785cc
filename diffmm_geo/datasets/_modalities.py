r"""Names of modalities and their feature files."""

import os
import re
from collections.abc import Sequence


def select_modalities(
    modalities: Sequence[str] | None, known: Sequence[str], where: str = ''
) -> tuple[str, ...]:
    r"""Checks modalities (default: all) and returns them in the order of
    :obj:`known`.
    """
    if modalities is None:
        return tuple(known)
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
        # Hidden files are no data, such as those of macOS on other disks.
        re.fullmatch(r'([^.].*)_feat\.npy', name)
        for name in os.listdir(folder)
    )
    return sorted(match[1] for match in matches if match is not None)
