import os
from pathlib import Path
from typing import Any

from diffmm_geo.utils.checks import describe


def check_path(name: str, path: Any) -> Path:
    r"""A path, in which a leading :obj:`~` stands for the home folder."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(f"'{name}' needs to be a path (got {describe(path)})")
    return Path(os.path.expanduser(path))
