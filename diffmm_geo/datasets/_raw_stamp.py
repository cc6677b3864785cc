import json
import os
import os.path as osp
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checksum import sha256sum


def write_stamp(processed: str, raw_paths: Sequence[str]) -> None:
    r"""Writes down which raw files a processed file comes from."""
    stamp = {
        osp.basename(path): {**_stat(path), 'sha256': sha256sum(path)}
        for path in raw_paths
    }
    _write(processed, stamp)


def changed_files(processed: str, raw_paths: Sequence[str]) -> list[str]:
    r"""The raw files that differ from those that a processed file comes from:
    in size, or in time and checksum. Without a record, all of them.
    """
    stamp: Any = None
    with suppress(OSError, ValueError, RecursionError):
        stamp = json.loads(Path(_path(processed)).read_text())
    if not isinstance(stamp, dict):
        stamp = {}
    changed, touched = [], False
    for path in raw_paths:
        name = osp.basename(path)
        if not osp.exists(path):  # To be downloaded.
            continue
        old, new = stamp.get(name), _stat(path)
        if not isinstance(old, dict) or old.get('size') != new['size']:
            changed.append(name)
        elif old.get('mtime_ns') != new['mtime_ns']:
            if sha256sum(path) == old.get('sha256'):
                touched, stamp[name] = True, {**old, **new}
            else:
                changed.append(name)
    if touched and not changed:
        with suppress(OSError):  # The folder may be read-only.
            _write(processed, stamp)
    return changed


def _path(processed: str) -> str:
    return f'{processed}.raw.json'


def _stat(path: str) -> dict[str, int]:
    stat = os.stat(path)
    return {'size': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


def _write(processed: str, stamp: Mapping[str, Any]) -> None:
    with atomic_path(_path(processed)) as temporary:
        Path(temporary).write_text(json.dumps(stamp, indent=1) + '\n')
