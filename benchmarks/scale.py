from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.child import LimitError, run_child
from benchmarks.graphs import parse_generated
from benchmarks.registry import Record, family
from benchmarks.session import Session

GRAPH, QUICK_GRAPH = 'power-1e5x1e5x5e6', 'power-600x500x6000'
PHASES = ('diffusion', 'generate', 'recommend')
KEYS = ('seconds', 'cpu_s', 'timed_s', 'fraction', 'peak_bytes')
CHANNELS, MODALITIES = 128, ('image', 'text')
HIDDEN_CHANNELS = 64
# Steps per epoch over the whole graph, and of the denoisers over all users.
FULL_STEPS, DIFFUSION_STEPS = 50, 60
# Phases of more seconds may be timed in part; the least part.
LONG, MIN_FRACTION = 1800.0, 0.1
SECONDS = 24 * 3600.0


@family('scale', 'one epoch of a large graph, by phase')
def run(session: Session) -> Iterator[Record]:
    options = session.options
    default = QUICK_GRAPH if options.quick else GRAPH
    for graph in options.graphs or (default,):
        yield from measure(session, graph)


def measure(session: Session, graph: str) -> Iterator[Record]:
    options = session.options
    labels = {'graph': graph}
    record = Record('scale', {**labels, 'phase': 'epoch'}, ours=True)
    sizes = parse_generated(graph)
    if sizes is None:
        record.status, record.reason = 'skipped', 'is not a generated graph'
        yield record
        return
    spec = {
        'graph': graph,
        'root': str(options.root),
        'folder': None if options.scratch is None else str(options.scratch),
        'modalities': MODALITIES,
        'channels': CHANNELS,
        'config': settings(options.hidden or HIDDEN_CHANNELS, *sizes),
        'fraction': options.fraction,
        'long': LONG,
        'device': str(options.device),
        'seed': options.seed,
        'threads': options.threads,
    }
    with TemporaryDirectory() as folder:
        # The reports of the phases, also if a later phase fails.
        spec['results'] = f'{folder}/results'
        try:
            run_child(
                'benchmarks.scale_training', spec, session.memory, SECONDS
            )
        except (LimitError, RuntimeError) as error:
            record.status, record.reason = 'failed', str(error)
        found: dict[str, float] = {}
        if Path(spec['results']).exists():
            for line in Path(spec['results']).read_text().splitlines():
                found |= json.loads(line)
    yield from records(labels, found, sizes[2])
    if record.status != 'ok':
        yield record


def records(
    labels: dict[str, Any],
    found: dict[str, float],
    num_edges: int,
) -> Iterator[Record]:
    """The cost of each part of the run, and of the epoch, which sums its
    phases.
    """
    parts = {
        name: {key: found[f'{name}_{key}'] for key in KEYS}
        for name in ('prepare', *PHASES)
        if f'{name}_seconds' in found
    }
    phases = [parts[name] for name in PHASES if name in parts]
    if len(phases) == len(PHASES):
        parts['epoch'] = {
            **{
                key: sum(x[key] for x in phases)
                for key in ('seconds', 'cpu_s', 'timed_s')
            },
            'peak_bytes': max(x['peak_bytes'] for x in phases),
        }
    for name, metrics in parts.items():
        metrics['us_per_edge'] = 1e6 * metrics['seconds'] / num_edges
        rise = metrics['peak_bytes'] - found['base_bytes']
        metrics['bytes_per_edge'] = rise / num_edges
        yield Record(
            'scale', {**labels, 'phase': name}, 'ok', '', metrics, True
        )


def settings(
    hidden: int, num_users: int, num_items: int, num_edges: int
) -> dict[str, Any]:
    return {
        'hidden_channels': hidden,
        'precision': 'bf16',
        'num_candidates': 2048,
        'batch_size': max(1, num_edges // FULL_STEPS),
        'diffusion_batch_size': max(1, num_users // DIFFUSION_STEPS),
        'k': min(20, num_items),
    }
