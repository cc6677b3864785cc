import os
import os.path as osp
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.paths import check_path

from ._modalities import feature_file, find_modalities


def write_folder(
    folder: str | Path,
    files: Mapping[str, bytes],
    features: Mapping[str, np.ndarray],
) -> None:
    r"""Writes files and a feature file for each modality. Once all are
    complete, they replace earlier files, the first file last.
    """
    folder = str(check_path('folder', folder))
    _check_modalities(folder, features)
    os.makedirs(folder, exist_ok=True)
    with ExitStack() as stack:
        for name, content in files.items():
            path = stack.enter_context(atomic_path(osp.join(folder, name)))
            Path(path).write_bytes(content)
        for modality, x in features.items():
            path = osp.join(folder, feature_file(modality))
            with open(stack.enter_context(atomic_path(path)), 'wb') as f:
                np.save(f, x, allow_pickle=False)


def _check_modalities(folder: str, features: Mapping[str, object]) -> None:
    # The folder needs to hold exactly these.
    for modality in features:
        # As readers find them, apart from separators and controls.
        if re.fullmatch(r'[^./\\:\0-\x1f][^/\\:\0-\x1f]*', modality) is None:
            raise ValueError(
                f"'data' is expected to have modality names that can name "
                f'files, without a leading dot, slashes and colons, got '
                f'{modality!r}'
            )
    known = find_modalities(folder) if osp.isdir(folder) else []
    others = [feature_file(m) for m in known if m not in features]
    if others:
        raise FileExistsError(
            f"'{folder}' holds {others}, which would be read as features of "
            f"'data' besides {list(features)}: remove them, or choose another "
            f'folder'
        )
