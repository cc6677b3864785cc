import os
import os.path as osp
import re
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from diffmm_geo.utils.atomic import atomic_path


def feature_file(modality: str) -> str:
    r"""The name of the file with the features of a modality.

    Args:
        modality (str): The modality.
    """
    return f'{modality}_feat.npy'


def find_modalities(folder: str) -> list[str]:
    r"""The modalities that a folder has a file of features of, in
    alphabetical order.

    Args:
        folder (str): The folder.
    """
    matches = [
        re.fullmatch(r'(\w+)_feat\.npy', name) for name in os.listdir(folder)
    ]
    return sorted(match[1] for match in matches if match is not None)


def check_feature_files(folder: str, features: Mapping[str, object]) -> None:
    r"""Raises if a reader would not find exactly these modalities after they
    are written to a folder.

    Args:
        folder (str): The folder, which need not exist.
        features (dict[str, object]): The modalities.
    """
    for modality in features:
        if re.fullmatch(r'\w+', modality) is None:
            raise ValueError(
                f"'data' is expected to have modalities whose names are of "
                f'letters, digits and underscores, to be found again by the '
                f'names of their files, got {modality!r}'
            )
    if not osp.isdir(folder):
        return
    others = [m for m in find_modalities(folder) if m not in features]
    if others:
        raise FileExistsError(
            f"'{folder}' holds {[feature_file(m) for m in others]}, which "
            f"would be read as features of 'data' with its "
            f'{list(features)}: remove them, or choose another folder'
        )


def write_features(
    stack: ExitStack,
    folder: str,
    features: Mapping[str, np.ndarray],
) -> None:
    r"""Writes arrays of features, which take their places once the stack is
    left.

    Args:
        stack (contextlib.ExitStack): The stack.
        folder (str): The folder.
        features (dict[str, numpy.ndarray]): The features of each modality.
    """
    for modality, x in features.items():
        path = osp.join(folder, feature_file(modality))
        with open(stack.enter_context(atomic_path(path)), 'wb') as f:
            np.save(f, x, allow_pickle=False)
