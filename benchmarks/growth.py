from __future__ import annotations

from collections.abc import Iterator

from benchmarks.child import LimitError, run_child
from benchmarks.epoch import refuse
from benchmarks.plots import plot_growth
from benchmarks.registry import Record, family
from benchmarks.session import Session
from benchmarks.training import MODES

# Sizes double from here. Batches grow with the graph, so that the number of
# steps per epoch is constant: a step goes over the whole graph, and constant
# batches would take twice the steps of twice the work.
SETTINGS = {
    'users': 10_000,
    'quick_users': 1_000,
    'users_per_item': 2,
    'edges_per_user': 10,
    'steps': 30,
    'channels': 64,
    'hidden_channels': 64,
    'epochs': 2,
}
MAX_SIZES, QUICK_SIZES = 16, 2
# The factor beyond doubling that is allowed from one size to the next.
FIRST_GUESS = 4.0


@family(
    'growth',
    'seconds and memory of an epoch per edge, on growing graphs',
    (plot_growth,),
    modes=tuple(MODES),
)
def run(session: Session) -> Iterator[Record]:
    default = ('scalable',) if session.options.quick else ('fp32', 'scalable')
    for mode in session.modes(MODES, default):
        yield from grow(session, mode)


def grow(session: Session, mode: str) -> Iterator[Record]:
    quick = session.options.quick
    users = SETTINGS['quick_users' if quick else 'users']
    done: list[Record] = []
    for _ in range(QUICK_SIZES if quick else MAX_SIZES):
        record = Record('growth', labels(users, mode), ours=True)
        asked_for = session.options.modes is not None
        if refuse(record, mode, asked_for) or stop(session, record, done):
            yield record
            return
        measure_size(session, record)
        if record.status == 'ok':
            done.append(record)
            per_edge(record, done)
        yield record
        if record.status != 'ok':
            return
        users *= 2


def labels(users: int, mode: str) -> dict[str, int | str]:
    return {
        'mode': mode,
        'users': users,
        'items': users // SETTINGS['users_per_item'],
        'edges': users * SETTINGS['edges_per_user'],
    }


def stop(session: Session, record: Record, done: list[Record]) -> bool:
    """Whether this size would exceed a limit, judged by smaller ones."""
    if not done:
        return False
    last = done[-1].metrics
    expected = {}
    for name in ('epoch_s', 'peak_bytes'):
        factor = FIRST_GUESS
        if len(done) > 1:
            factor = max(1.0, last[name] / done[-2].metrics[name])
        expected[name] = factor * last[name]
    seconds, memory = expected['epoch_s'], expected['peak_bytes']
    if seconds > session.options.max_seconds:
        record.reason = f'an epoch would take about {seconds:.0f} s'
    elif memory > session.memory:
        record.reason = f'would hold about {memory / 1e9:.1f} GB'
    else:
        return False
    record.status = 'skipped'
    return True


def measure_size(session: Session, record: Record) -> None:
    options, size = session.options, record.labels
    spec = {
        'graph': f'power-{size["users"]}x{size["items"]}x{size["edges"]}',
        'root': str(options.root),
        'recipe': 'default',
        'config': {
            **MODES[size['mode']],
            'hidden_channels': SETTINGS['hidden_channels'],
            'batch_size': max(1, size['edges'] // SETTINGS['steps']),
        },
        'channels': SETTINGS['channels'],
        'device': str(options.device),
        'epochs': SETTINGS['epochs'],
        'seed': options.seed,
        'threads': options.threads,
    }
    # Evaluation and generating a graph add to the epochs.
    limit = 3 * (SETTINGS['epochs'] + 1) * options.max_seconds
    try:
        record.metrics = run_child(
            'benchmarks.training', spec, session.memory, limit, huge_pages=True
        )
    except LimitError as error:
        record.status, record.reason = 'skipped', str(error)
    except RuntimeError as error:
        record.status, record.reason = 'failed', str(error)


def per_edge(record: Record, done: list[Record]) -> None:
    """Adds the figures that should stay constant, and the ratio of their
    largest to their smallest value so far.
    """
    metrics, edges = record.metrics, record.labels['edges']
    for phase in ('diffusion', 'generate', 'recommend', 'evaluate', 'epoch'):
        if f'{phase}_s' in metrics:
            value = 1e6 * metrics[f'{phase}_s'] / edges
            metrics[f'{phase}_us_per_edge'] = value
    metrics['us_per_edge'] = metrics['epoch_us_per_edge']
    rise = metrics['peak_bytes'] - metrics['base_bytes']
    metrics['bytes_per_edge'] = rise / edges
    for name in ('us_per_edge', 'bytes_per_edge'):
        values = [r.metrics[name] for r in done]
        metrics[f'{name}_ratio'] = max(values) / min(values)
