from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import device as device_info
from benchmarks.graphs import (
    GENERATED,
    REAL,
    Graph,
    is_available,
    load_graph,
    parse_generated,
)
from benchmarks.registry import Record
from diffmm_geo.utils.atomic import atomic_path

# Memory to generate a graph, and to sort it for both directions.
BYTES_PER_EDGE = 120


@dataclass(frozen=True)
class Options:
    """The options of the command line; `None` leaves a choice to the family."""

    device: torch.device = torch.device('cpu')
    root: Path = Path('data')
    output: Path = Path('runs/bench')
    graphs: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    channels: tuple[int, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    directions: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    hidden: int | None = None
    threads: int | None = None
    sizes: tuple[int, ...] | None = None
    epochs: int = 5
    seconds: float = 0.5
    # The limits of memory in bytes (free memory, if less) and of seconds per
    # call (per epoch, in `growth`).
    memory: float = 20e9
    max_seconds: float = 60.0
    quick: bool = False
    # For `scale`: the fraction of steps of a long phase, and the folder for
    # files.
    fraction: float = 1.0
    scratch: Path | None = None
    seed: int = 0


@dataclass
class Session:
    """A run: its options, the rates of the device, and the records so far,
    which are written to the file one by one.
    """

    options: Options
    command: str = ''
    results: str = 'results.json'
    records: list[Record] = field(default_factory=list)
    # Names of what there was no time for.
    left_out: list[str] = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        device = self.options.device
        self.started = time.strftime('%Y-%m-%d %H:%M:%S %z')
        self.environment = device_info.environment(device)
        self.cache_bytes = device_info.cache_bytes(device)
        free = device_info.available_bytes(device)
        self.memory = min(self.options.memory, 0.9 * free)
        self.ceilings = device_info.ceilings(device)
        self._graph: Graph | None = None
        # glibc keeps freed memory only after a block of this size was freed.
        # Without it, the first kernel would map its output's pages in each
        # call.
        torch.empty(2**25 - 2**16, dtype=torch.uint8)

    def choose(self, name: str, default: tuple, quick: tuple) -> tuple:
        """The requested or the default values of an option."""
        chosen = getattr(self.options, name)
        if chosen is not None:
            return chosen
        return quick if self.options.quick else default

    def points(
        self, default: tuple[tuple, ...], quick: tuple[tuple, ...]
    ) -> list[tuple[int, str, str]]:
        """Varies channels, types and directions one at a time, with the middle
        number of channels and the first of the others. Their full product would
        be large, and add little.
        """
        channels, dtypes, directions = (
            self.choose(name, *values)
            for name, values in zip(
                ('channels', 'dtypes', 'directions'), zip(default, quick)
            )
        )
        middle = channels[len(channels) // 2]
        out = [(c, dtypes[0], directions[0]) for c in channels]
        out += [(middle, t, directions[0]) for t in dtypes]
        out += [(middle, dtypes[0], d) for d in directions]
        return list(dict.fromkeys(out))

    def modes(
        self, known: Collection[str], default: Collection[str]
    ) -> list[str]:
        """Those of a family that are asked for, or its default ones. The
        families of `all` share the option, and have different modes.
        """
        chosen = self.options.modes or ()
        return [m for m in chosen if m in known] or list(default)

    def graph_names(self, default: tuple[str, ...] = ()) -> list[str]:
        """The requested graphs, or the available default ones."""
        names = self.options.graphs
        if names is not None:
            return [n for n in names if self._fits(n)]
        if self.options.quick:
            return [GENERATED[0]]
        # On a CPU, larger ones take hours.
        is_cpu = self.options.device.type == 'cpu'
        generated = GENERATED[:2] if is_cpu else GENERATED
        names = default or (*REAL, *generated)
        return [n for n in names if self._is_at_hand(n)]

    def _is_at_hand(self, name: str) -> bool:
        if not is_available(name, self.options.root) or not self._fits(name):
            return False
        try:
            if name == 'movielens-100k':
                self.graph(name)
        except ConnectionError as error:
            progress(f'  {name} is left out: {error}')
            return False
        return True

    def _fits(self, name: str) -> bool:
        _, _, edges = parse_generated(name) or (0, 0, 0)
        needed = BYTES_PER_EDGE * edges
        if needed > self.memory:
            progress(f'  {name} is left out: it takes {needed / 1e9:.0f} GB')
        return needed <= self.memory

    def graph(self, name: str) -> Graph:
        """Loads a graph, and caches the last one."""
        if self._graph is None or self._graph.name != name:
            self._graph = None
            self._graph = load_graph(name, self.options.root, self.options.seed)
        return self._graph

    def wants(self, backend: str) -> bool:
        chosen = self.options.backends
        return chosen is None or backend in chosen

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.write()

    def to_dict(self) -> dict[str, Any]:
        return {
            'schema': 1,
            'command': self.command,
            'started': self.started,
            'complete': self.complete,
            'left_out': self.left_out,
            'environment': self.environment,
            'ceilings': self.ceilings,
            'records': [asdict(record) for record in self.records],
        }

    def write(self) -> None:
        path = self.options.output / self.results
        with atomic_path(str(path)) as temporary:
            text = json.dumps(self.to_dict(), indent=1)
            Path(temporary).write_text(f'{text}\n')


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def failures(records: list[Record]) -> Iterator[Record]:
    """The failures of our own code; peers may fail."""
    return (r for r in records if r.ours and r.status == 'failed')


def unavailable(records: list[Record]) -> list[str]:
    """What is not installed, once for each family."""
    return list(
        dict.fromkeys(
            f'{r.family}: {r.reason}'
            for r in records
            if r.status == 'not available'
        )
    )
