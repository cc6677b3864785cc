r"""The file that training resumes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from diffmm_geo.tasks import Task
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import describe
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.torch_file import load_torch_file

# Tells our files from others', and this layout from later ones.
FORMAT, VERSION = 'diffmm_geo.checkpoint', 3
# These only decide when to stop, and may change on resuming.
STOPPING = ('num_epochs', 'patience')


def checkpoint_path(folder: str | Path) -> Path:
    r"""The checkpoint of a run in a folder, which may not exist yet."""
    folder = check_path('checkpoint_dir', folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"'checkpoint_dir' needs to be a folder (got the file '{folder}')"
        )
    return folder / 'last.ckpt'


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    r"""Replaces the checkpoint, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(str(path)) as temporary:
        head = {'format': FORMAT, 'version': VERSION}
        torch.save({**head, **content}, temporary)
    # What was killed while it wrote.
    for leftover in path.parent.glob(f'{path.name}.*.tmp'):
        leftover.unlink(missing_ok=True)


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
    content = load_torch_file(str(path), map_location)
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


def make_checkpoint(
    task: Task, history: list[dict[str, Any]], best: dict[str, Any] | None
) -> dict[str, Any]:
    r"""What to resume from after an epoch. :obj:`best` is the state of the
    best epoch, unless it is this one or none was evaluated.
    """
    return {
        'task': type(task).__name__,
        'config': asdict(task.config),
        'data': task.data_digests,
        'history': history,
        'state': task.get_state(),
        'best': best,
        'optimizers': {n: o.state_dict() for n, o in task.optimizers.items()},
        'random': task.random_state.state_dict(),
    }


def restore_checkpoint(
    task: Task, content: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    r"""Restores the state of a run, and returns its history and the state of
    its best epoch.

    Raises:
        ValueError: If the checkpoint belongs to other data or settings.
    """
    name = type(task).__name__
    if content['task'] != name:
        raise ValueError(
            f"'checkpoint_dir' needs to hold a run of {name} (got one of "
            f'{content["task"]})'
        )
    config, old = asdict(task.config), content['config']
    for setting in _differing(config, old):
        if setting not in STOPPING:
            raise ValueError(
                f"'{setting}' needs to be {old.get(setting)!r}, as in the run "
                f'to resume (got {config.get(setting)!r})'
            )
    if data := _differing(task.data_digests, content['data']):
        raise ValueError(
            f"'data' needs to be that of the run to resume (got another for "
            f'{data})'
        )
    task.set_state(content['state'])
    for name, optimizer in task.optimizers.items():
        optimizer.load_state_dict(content['optimizers'][name])
    task.random_state.load_state_dict(content['random'])
    return content['history'], content['best'] or content['state']


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    r"""The sorted names that only one of them has, or with another value."""

    def plain(x: Any) -> Any:
        # A list is the same setting as a tuple.
        return list(x) if isinstance(x, Sequence) else x

    both = one.keys() & other.keys()
    same = {name for name in both if plain(one[name]) == plain(other[name])}
    return sorted({*one, *other} - same)
