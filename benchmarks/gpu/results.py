from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from diffmm_geo.utils.atomic import atomic_path


class Results(dict):
    """The results of a phase so far, kept in its file."""

    def __init__(self, path: Path, **entries: Any) -> None:
        super().__init__({'complete': False, **entries})
        self.path = path
        self.write()

    @classmethod
    def resume(cls, path: Path, **entries: Any) -> Results:
        """Those of an earlier phase, to add to."""
        return cls(path, **{**entries, **read(path)})

    def write(self, **entries: Any) -> None:
        self.update(entries)
        with atomic_path(str(self.path)) as temporary:
            Path(temporary).write_text(json.dumps(self, indent=1) + '\n')


def read(path: Path) -> dict[str, Any]:
    """The results in a file, if it exists."""
    out: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return out


def archive(folder: Path, path: Path) -> None:
    """Writes all files of a folder to an archive."""
    with atomic_path(str(path)) as temporary:
        with tarfile.open(temporary, 'w:gz') as tar:
            tar.add(folder, path.name.partition('.')[0])
