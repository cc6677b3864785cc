from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import geometric_mean
from typing import Any

from benchmarks.registry import Record


def number(x: float) -> str:
    """Three digits, without an exponent if possible."""
    return f'{x:.0f}' if 1000 <= abs(x) < 1e6 else f'{x:.3g}'


def spread(name: str) -> Callable[[dict[str, float]], str]:
    return lambda m: f'{number(m[f"{name}_p10"])}..{number(m[f"{name}_p90"])}'


# A column: its title and the metric to show.
def column(
    title: str, name: str, scale: float = 1.0, form: Callable = number
) -> tuple[str, Callable[[dict[str, float]], str]]:
    return title, lambda m: form(scale * m[name])


# The columns of a table, if a family has their metrics.
COLUMNS = {
    'ms': column('ms', 'ms'),
    'ms_p90': ('p10..p90', spread('ms')),
    'ms_warm': column('warm', 'ms_warm'),
    'ms_eager': column('eager', 'ms_eager'),
    'edges_per_s': column('Medges/s', 'edges_per_s', 1e-6),
    'gb_per_s': column('GB/s', 'gb_per_s'),
    'gathered_gb_per_s': column('gathered', 'gathered_gb_per_s'),
    'share_of_copy': column('of copy', 'share_of_copy', 1, '{:.1%}'.format),
    'share_of_matmul': column(
        'of matmul', 'share_of_matmul', 1, '{:.1%}'.format
    ),
    'seconds': column('seconds', 'seconds'),
    'cpu_s': column('cpu s', 'cpu_s'),
    'timed_s': column('timed s', 'timed_s'),
    'fraction': column('timed', 'fraction', 1, '{:.0%}'.format),
    'epoch_s': column('epoch s', 'epoch_s'),
    'epoch_s_p90': ('p10..p90', spread('epoch_s')),
    'diffusion_s': column('diffusion', 'diffusion_s'),
    'generate_s': column('generate', 'generate_s'),
    'recommend_s': column('recommend', 'recommend_s'),
    'evaluate_s': column('evaluate', 'evaluate_s'),
    'us_per_edge': column('us/edge', 'us_per_edge'),
    'us_per_edge_ratio': column('max/min', 'us_per_edge_ratio'),
    'bytes_per_edge': column('B/edge', 'bytes_per_edge'),
    'bytes_per_edge_ratio': column('max/min', 'bytes_per_edge_ratio'),
    'speedup': column('speed-up', 'speedup', 1, '{:.2f}x'.format),
    'vs_best_peer': column('vs best peer', 'vs_best_peer', 1, '{:.2f}x'.format),
    'peak_bytes': column('peak MB', 'peak_bytes', 1e-6),
    'error': column('error', 'error', 1, '{:.0e}'.format),
}
FOOTNOTE = """\
ms: median of the calls, on alternating copies of the inputs. warm: in ms, on
the same inputs, if they stay in cache. eager: in ms, a call with the host's
work, which the other times on a GPU leave out. GB/s: of compulsory bytes.
gathered: GB/s if each edge reads its row. of copy, of matmul: share of the
rate of a large copy and a large matrix product. speed-up: how many times as
fast `ours` is. vs best peer: how many times as fast as the fastest peer.
error: against `naive` in float64.
"""


def header(environment: dict[str, Any], ceilings: dict[str, float]) -> str:
    versions = {
        name: value
        for name, value in environment['versions'].items()
        if value is not None
    }
    matmul = ', '.join(
        f'{name.removeprefix("matmul_")} {rate / 1e9:.0f}'
        for name, rate in ceilings.items()
        if name != 'copy'
    )
    driver, threads = environment['driver'], environment['threads']
    on = f'driver {driver}' if driver else f'threads {threads}'
    lines = [
        f'{environment["device"]}, {on}, commit {environment["commit"]}',
        ', '.join(f'{name} {value}' for name, value in versions.items()),
        f'copy {ceilings["copy"] / 1e9:.1f} GB/s; '
        f'matrix product in GFLOP/s: {matmul}',
    ]
    if environment['device_type'] == 'cpu':
        load = environment['load_average']
        if load > threads / 2:
            hint = ' (--threads 1 is steadier)' if threads > 1 else ''
            lines.append(
                f'Others keep this machine busy (load average {load}): times '
                f'are too long{hint}.'
            )
    return '\n'.join(lines)


def line(record: Record) -> str:
    """A short form of a record, to show progress."""
    labels = ' '.join(str(value) for value in record.labels.values())
    if record.status != 'ok':
        return f'{record.family} {labels}: {record.status}, {record.reason}'
    m = record.metrics
    parts = [f'{number(m["ms"])} ms'] if 'ms' in m else []
    parts += [f'{number(m["epoch_s"])} s an epoch'] if 'epoch_s' in m else []
    parts += [f'speed-up {m["speedup"]:.2f}'] if 'speedup' in m else []
    parts += [f'{number(m["seconds"])} s'] if 'seconds' in m else []
    return f'{record.family} {labels}: {", ".join(parts)}'


def table(records: Sequence[Record]) -> str:
    """The records of a family. Untimed ones show the reason."""
    labels = list(dict.fromkeys(k for r in records for k in r.labels))
    metrics = [c for c in COLUMNS if any(c in r.metrics for r in records)]
    rows = [[*labels, *(COLUMNS[c][0] for c in metrics)]]
    notes = ['']
    for record in records:
        cells = [str(record.labels.get(k, '')) for k in labels]
        for c in metrics:
            known = c in record.metrics
            cells.append(COLUMNS[c][1](record.metrics) if known else '')
        rows.append(cells)
        note = f'  {record.status}: {record.reason}' if record.reason else ''
        notes.append(note)

    widths = [max(map(len, column)) for column in zip(*rows)]
    out = []
    for cells, note in zip(rows, notes):
        left = [x.ljust(w) for x, w in zip(cells, widths)][: len(labels)]
        right = [x.rjust(w) for x, w in zip(cells, widths)][len(labels) :]
        out.append('  '.join([*left, *right]).rstrip() + note)
    out.insert(1, '-' * (sum(widths) + 2 * len(widths) - 2))
    if 'ms' in metrics:
        out += ['', FOOTNOTE.rstrip()]
    if 'vs_best_peer' in metrics:
        out += ['', summary(records)]
    if 'speedup' in metrics:
        out += ['', fastest(records)]
    return '\n'.join(out)


def summary(records: Sequence[Record]) -> str:
    """Compares `ours` with the fastest peer, over all problems."""
    ratios = [
        record.metrics['vs_best_peer']
        for record in records
        if 'vs_best_peer' in record.metrics
    ]
    mean, least = geometric_mean(ratios), min(ratios)
    return (
        f'ours vs best peer, {len(ratios)} problems: '
        f'geometric mean {mean:.2f}x, minimum {least:.2f}x'
    )


def fastest(records: Sequence[Record]) -> str:
    """Names the fastest backend by type and direction: the one with the least
    geometric mean of times over the problems, of those that solve all.
    """
    times: dict[str, dict[str, dict[tuple, float]]] = {}
    for record in records:
        labels = dict(record.labels)
        backend = labels.pop('backend', None)
        if backend is None or 'ms' not in record.metrics:
            continue
        kind = ' '.join(
            str(labels[k]) for k in ('dtype', 'direction') if k in labels
        )
        found = times.setdefault(kind, {}).setdefault(backend, {})
        found[tuple(labels.items())] = record.metrics['ms']
    parts = []
    for kind, found in times.items():
        most = max(map(len, found.values()))
        means = {
            backend: geometric_mean(ms.values())
            for backend, ms in found.items()
            if len(ms) == most
        }
        best = min(means, key=lambda backend: means[backend])
        text = f'{kind} {best}'.strip()
        if best != 'ours' and 'ours' in means:
            text += f' ({means["ours"] / means[best]:.2f}x ours)'
        parts.append(text)
    return f'fastest: {"; ".join(parts)}'
