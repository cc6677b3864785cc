from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

# 'failed': it raised, or its output is wrong; never timed.
# 'skipped': not tried, since it would not fit or would take too long.
# 'not available': not tried, since what it needs is not installed.
STATUSES = ('ok', 'failed', 'skipped', 'not available')


@dataclass
class Record:
    """One line of the report: what was measured, and what came out."""

    family: str
    labels: dict[str, Any]
    status: str = 'ok'
    reason: str = ''
    metrics: dict[str, float] = field(default_factory=dict)
    # A failure of what is ours fails the run; one of a peer is a result.
    ours: bool = False


@dataclass(frozen=True)
class Family:
    name: str
    summary: str
    run: Callable[..., Iterator[Record]]
    plots: tuple[Callable, ...]
    # The names that its options know, for those that take names.
    choices: dict[str, tuple[str, ...]]


FAMILIES: dict[str, Family] = {}


def family(
    name: str,
    summary: str,
    plots: tuple[Callable, ...] = (),
    **choices: tuple[str, ...],
) -> Callable[[Callable], Callable]:
    """Registers a function of a session that yields records."""

    def register(run: Callable[..., Iterator[Record]]) -> Callable:
        FAMILIES[name] = Family(name, summary, run, plots, choices)
        return run

    return register
