r"""The files that training resumes from."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from diffmm_geo.utils.atomic import atomic_path, sync_folder
from diffmm_geo.utils.checks import describe
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.torch_file import load_torch_file

LAST, PREVIOUS, BEST = 'last.ckpt', 'previous.ckpt', 'best.ckpt'
# Tells our files from others', and this layout from later ones.
FORMAT = 'diffmm_geo.checkpoint'
VERSION = 2


def write_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    r"""Writes tensors and plain values, all or nothing."""
    head = {'format': FORMAT, 'version': VERSION}
    with atomic_path(str(path)) as temporary:
        torch.save({**head, **content}, temporary)


def read_checkpoint(
    path: str | Path,
    map_location: torch.device | str = 'cpu',
) -> dict[str, Any]:
    r"""Reads a file of :func:`write_checkpoint`. Nothing in it is executed.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is incomplete, damaged, or no checkpoint of this
            library.
    """
    path = str(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{path}': expected a checkpoint, got no file")
    content = load_torch_file(path, map_location)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise ValueError(
            f"'{path}': expected a checkpoint of diffmm_geo, got another file"
        )
    if content.get('version') != VERSION:
        raise ValueError(
            f"'{path}': expected a checkpoint of version {VERSION}, got "
            f'{describe(content.get("version"))}'
        )
    return content


class CheckpointFolder:
    r"""The checkpoints of a training run: :obj:`last.ckpt` to resume from,
    :obj:`previous.ckpt` in case the last gets damaged, and :obj:`best.ckpt`,
    the weights of the best epoch. The first :meth:`write` makes the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_path('checkpoint_dir', folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                f"'checkpoint_dir' needs to be a folder (got the file "
                f"'{self.folder}')"
            )
        # Files of another run are not to be taken for one's own.
        self._is_ours = False

    def read(
        self,
        map_location: torch.device | str = 'cpu',
    ) -> dict[str, Any] | None:
        r"""The last checkpoint, if there is one. If it is damaged, warns and
        reads the one before.

        Raises:
            ValueError: If there are only damaged ones.
        """
        first: ValueError | None = None
        for name in (LAST, PREVIOUS):
            try:
                content = read_checkpoint(self.folder / name, map_location)
            except FileNotFoundError:
                continue
            except ValueError as error:
                first = first or error
                continue
            if first is not None:
                warnings.warn(f"{first}; '{name}' is used", stacklevel=2)
            self._is_ours = True
            return content
        if first is not None:
            raise first
        return None

    def write(
        self,
        content: dict[str, Any],
        best: dict[str, Any] | None = None,
    ) -> None:
        r"""Adds the checkpoint of an epoch, with its weights in :obj:`best` if
        it is the best so far.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        last, previous = self.folder / LAST, self.folder / PREVIOUS
        if not self._is_ours:
            previous.unlink(missing_ok=True)
            write_checkpoint(last, content)
        else:
            following = self.folder / 'next.ckpt'
            write_checkpoint(following, content)
            if last.exists():
                os.replace(last, previous)
            os.replace(following, last)
            sync_folder(str(last))
        if best is not None:
            write_checkpoint(self.folder / BEST, best)
        if not self._is_ours:
            self._is_ours = True
            # What was killed while it wrote.
            for leftover in self.folder.glob('*.ckpt.*.tmp'):
                leftover.unlink(missing_ok=True)
