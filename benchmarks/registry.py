from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

# 'failed': raised an error, or has a wrong output; never timed.
# 'skipped': not tried, as it would not fit or would take too long.
# 'not available': not tried, as it needs a package that is not installed.
STATUSES = ('ok', 'failed', 'skipped', 'not available')


@dataclass
class Record:
    """One line of the report: what was measured, and the result."""

    family: str
    labels: dict[str, Any]
    status: str = 'ok'
    # Of the status; of an 'ok', what to know about its times.
    reason: str = ''
    metrics: dict[str, float] = field(default_factory=dict)
    # A failure of our own code fails the run; a failure of a peer is a result.
    ours: bool = False


@dataclass(frozen=True)
class Family:
    name: str
    summary: str
    run: Callable[..., Iterator[Record]]
    plots: tuple[Callable, ...]
    # The valid names of each option that takes names.
    choices: dict[str, tuple[str, ...]]


FAMILIES: dict[str, Family] = {}


def family(
    name: str,
    summary: str,
    plots: tuple[Callable, ...] = (),
    **choices: tuple[str, ...],
) -> Callable[[Callable], Callable]:
    """Registers a function that takes a session and yields records."""

    def register(run: Callable[..., Iterator[Record]]) -> Callable:
        FAMILIES[name] = Family(name, summary, run, plots, choices)
        return run

    return register
