r"""What a checkpoint of a run holds, and how the run continues from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from diffmm_geo.tasks import Task
from diffmm_geo.utils.random_state import get_random_state, set_random_state

# These only decide when to stop, and may change on resuming.
STOPPING = ('num_epochs', 'patience')


def make_checkpoint(
    task: Task,
    history: list[dict[str, Any]],
    best: dict[str, Any] | None,
    is_best: bool,
) -> dict[str, Any]:
    r"""What to resume from after an epoch. :obj:`best` is the state of the
    best epoch, if one was evaluated, and :obj:`is_best` tells whether it is
    this one.
    """
    optimizers = {
        name: optimizer.state_dict()
        for name, optimizer in task.optimizers.items()
    }
    return {
        'task': type(task).__name__,
        'config': asdict(task.config),
        'data': task.data_digests,
        'history': history,
        'state': best if is_best else task.get_state(),
        'best': None if is_best else best,
        'optimizers': optimizers,
        'random': get_random_state(task.device),
    }


def restore_checkpoint(
    task: Task,
    content: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    r"""Restores the state of a run, and returns its history and the state of
    its best epoch.

    Raises:
        ValueError: If the checkpoint belongs to other data or settings.
    """
    _check_task(task, content)
    task.set_state(content['state'])
    for name, optimizer in task.optimizers.items():
        optimizer.load_state_dict(content['optimizers'][name])
    set_random_state(task.device, content['random'])
    return content['history'], content['best'] or content['state']


def _check_task(task: Task, content: dict[str, Any]) -> None:
    name = type(task).__name__
    if content['task'] != name:
        raise ValueError(
            f"'checkpoint_dir' needs to hold a run of {name} (got one of "
            f'{content["task"]})'
        )
    config, old = asdict(task.config), content['config']
    settings = [x for x in _differing(config, old) if x not in STOPPING]
    if settings:
        name = settings[0]
        raise ValueError(
            f"'{name}' needs to be {old.get(name)!r}, as in the run to resume "
            f'(got {config.get(name)!r})'
        )
    data = _differing(task.data_digests, content['data'])
    if data:
        raise ValueError(
            f"'data' needs to be that of the run to resume (got another for "
            f'{data})'
        )


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    r"""The sorted names that only one of them has, or with another value."""
    return sorted(
        name
        for name in {*one, *other}
        if name not in one
        or name not in other
        or _plain(one[name]) != _plain(other[name])
    )


def _plain(value: Any) -> Any:
    # A list is the same setting as a tuple.
    return list(value) if isinstance(value, Sequence) else value
