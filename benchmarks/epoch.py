from __future__ import annotations

from collections.abc import Iterator

from benchmarks.child import LimitError, run_child
from benchmarks.plots import plot_phases
from benchmarks.registry import Record, family
from benchmarks.session import Session
from benchmarks.training import MODES, unknown_fields
from diffmm_geo.training import RECIPES

QUICK_GRAPH = 'power-500x250x3000'
# The limit of an epoch in seconds.
LIMIT = 600.0


@family(
    'epoch',
    "an epoch of training with the recipe of the paper's authors",
    (plot_phases,),
    modes=tuple(MODES),
)
def run(session: Session) -> Iterator[Record]:
    options = session.options
    if options.quick and options.graphs is None:
        names = [QUICK_GRAPH]
    else:
        names = session.graph_names(('tiktok', 'movielens-100k'))
    for name in names:
        for mode in session.modes(MODES, MODES):
            yield measure_epoch(session, name, mode)


def measure_epoch(session: Session, graph: str, mode: str) -> Record:
    options = session.options
    record = Record('epoch', {'graph': graph, 'mode': mode}, ours=True)
    if refuse(record, mode, options.modes is not None):
        return record
    spec = {
        'graph': graph,
        'root': str(options.root),
        'recipe': graph if graph in RECIPES else 'default',
        'config': MODES[mode],
        'device': str(options.device),
        'epochs': options.epochs,
        'seed': options.seed,
        'threads': options.threads,
    }
    limit = LIMIT * (options.epochs + 1)
    try:
        record.metrics = run_child(
            'benchmarks.training', spec, session.memory, limit
        )
    except (LimitError, RuntimeError) as error:
        record.status, record.reason = 'failed', str(error)
    return record


def refuse(record: Record, mode: str, asked_for: bool) -> bool:
    """Marks a mode that this version does not support."""
    missing = unknown_fields(mode)
    if missing:
        record.status = 'failed' if asked_for else 'skipped'
        record.reason = f'DiffMMConfig has no {", ".join(missing)}'
    return bool(missing)
