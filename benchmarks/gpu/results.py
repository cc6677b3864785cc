from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffmm_geo.utils.atomic import atomic_path


class Results(dict):
    """What a phase has found so far, kept in its file."""

    def __init__(self, path: Path, **entries: Any) -> None:
        super().__init__(complete=False, **entries)
        self.path = path
        self.write()

    def write(self, **entries: Any) -> None:
        self.update(entries)
        with atomic_path(str(self.path)) as temporary:
            Path(temporary).write_text(json.dumps(self, indent=1) + '\n')


def read(path: Path) -> dict[str, Any]:
    """The results in a file, if there is one."""
    out: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return out
