r"""What a checkpoint of a run holds, and how the run continues from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffmm_geo.training.random_state import random_state, set_random_state
from diffmm_geo.utils.sharded_state import (
    sharded_optimizer_state,
    whole_state,
)

if TYPE_CHECKING:
    from diffmm_geo.training.trainer import Trainer

# These only decide when to stop, and may change on resuming.
STOPPING = ('num_epochs', 'patience')


def make_checkpoint(
    trainer: Trainer,
    best: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    r"""What to resume from, and the weights of the epoch if they are the best
    so far.

    Args:
        trainer (Trainer): The trainer at the end of an epoch.
        best (dict): The :meth:`state_dict` of the best epoch.
    """
    is_best = trainer.best_val is trainer.history[-1]
    state = best if is_best else trainer.state_dict()
    optimizers = {
        name: optimizer.state_dict()
        for name, optimizer in trainer.task.optimizers.items()
    }
    return {
        'task': type(trainer.task).__name__,
        'config': asdict(trainer.config),
        'data': trainer.data_digests,
        'history': trainer.history,
        'state': state,
        'best': None if is_best else best,
        'optimizers': whole_state(optimizers, trainer.ranks),
        'random': random_state(trainer.device),
    }, {'record': trainer.best_val, 'state': best} if is_best else None


def restore_checkpoint(
    trainer: Trainer,
    content: dict[str, Any],
) -> dict[str, Any]:
    r"""Restores the state of a run, and returns the weights of its best epoch.

    Args:
        trainer (Trainer): A trainer of the same data and settings.
        content (dict): The checkpoint.

    Raises:
        ValueError: If the checkpoint belongs to other data or settings.
    """
    _check_task(trainer, content)
    trainer.load_state_dict(content['state'])
    for name, optimizer in trainer.task.optimizers.items():
        optimizer.load_state_dict(
            sharded_optimizer_state(content['optimizers'][name], optimizer)
        )
    trainer.history[:] = content['history']
    set_random_state(trainer.device, content['random'])
    best: dict[str, Any] = content['best'] or content['state']
    return best


def _check_task(trainer: Trainer, content: dict[str, Any]) -> None:
    task = type(trainer.task).__name__
    if content['task'] != task:
        raise ValueError(
            f"'checkpoint_dir' needs to hold a run of {task} (got one of "
            f'{content["task"]})'
        )
    # A file holds plain values only.
    config, old = asdict(trainer.config), content['config']
    differing = [
        name
        for name in sorted({*config, *old} - {*STOPPING})
        if name not in config
        or name not in old
        or _plain(config[name]) != _plain(old[name])
    ]
    if differing:
        name = differing[0]
        raise ValueError(
            f"'{name}' needs to be {old.get(name)!r}, as in the run to resume "
            f'(got {config.get(name)!r})'
        )
    digests = trainer.data_digests
    if content['data'] != digests:
        differing = sorted(
            name
            for name in {*digests, *content['data']}
            if digests.get(name) != content['data'].get(name)
        )
        raise ValueError(
            f"'data' needs to be that of the run to resume (got another for "
            f'{differing})'
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) else value


def data_digest(x: Tensor) -> str:
    r"""A digest of the type, the size and the values of a tensor."""
    x = x.detach().cpu().contiguous()
    digest = hashlib.sha256(f'{x.dtype} {list(x.size())}'.encode())
    digest.update(x.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
