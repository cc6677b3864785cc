"""Figures of a family's records. A function returns `None` if there are too few
records to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from benchmarks.registry import Record
from diffmm_geo.utils.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ceilings = dict[str, float]
# Of the fastest peers and of all that beat ours; others are gray.
COLORS = (
    *('#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd'),
    *('#8c564b', '#e377c2', '#bcbd22', '#17becf'),
)
MARKERS = 'os^'
NUM_RIVALS = 3
# Beyond the noise, and what a plot can show.
BEATS = 0.98
PHASES = {
    'diffusion': '#1f77b4',
    'generate': '#ff7f0e',
    'recommend': '#2ca02c',
    'evaluate': '#b0b0b0',
}


def plot_channels(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Throughput against channels, with a panel per graph."""
    records = _base(records, 'channels')
    graphs = _distinct(records, 'graph')
    if len(_distinct(records, 'channels')) < 2:
        return None
    figure, axes = _panels(len(graphs))
    styles = _styles(records)
    for ax, graph in zip(axes, graphs):
        chosen = [r for r in records if r.labels['graph'] == graph]
        _lines(ax, chosen, styles, 'channels', 'gb_per_s')
        edges = chosen[0].labels['edges']
        ax.set(title=f'{graph}, {edges:,} edges', xlabel='channels')
        _log_x(ax, _distinct(chosen, 'channels'))
        ax.set_yscale('log')
    return _finish(figure, axes, 'GB/s of compulsory bytes')


def plot_edges(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Throughput against edges."""
    records = _base(records, 'edges')
    if len(_distinct(records, 'edges')) < 2:
        return None
    figure, axes = _panels(1)
    _lines(axes[0], records, _styles(records), 'edges', 'edges_per_s', 1e-6)
    channels = records[0].labels['channels']
    axes[0].set(title=f'{channels} channels', xlabel='edges')
    axes[0].set_yscale('log')
    _log_x(axes[0], _distinct(records, 'edges'))
    return _finish(figure, axes, 'million edges a second')


def plot_roofline(
    records: Sequence[Record], ceilings: Ceilings
) -> Figure | None:
    """Roofline: FLOP per second against FLOP per byte, below the device's
    limit.
    """
    records = [r for r in records if 'flop_per_byte' in r.metrics]
    if not records:
        return None
    directions = list(dict.fromkeys(r.labels.get('direction') for r in records))
    figure, axes = _panels(len(directions), sharey=True)
    x = [r.metrics['flop_per_byte'] for r in records]
    high = max(*x, 50) * 2
    ends = min(min(x) / 2, high / 100), high
    for ax, direction in zip(axes, directions):
        _roofs(ax, ceilings, *ends)
        for backend, style in _styles(records).items():
            chosen = [
                r
                for r in records
                if r.labels['backend'] == backend
                and r.labels.get('direction') == direction
            ]
            ax.scatter(
                [r.metrics['flop_per_byte'] for r in chosen],
                [r.metrics['gflop_per_s'] for r in chosen],
                s=34 if backend == 'ours' else 14,
                linewidths=0,
                **{k: v for k, v in style.items() if k != 'linewidth'},
            )
        ax.set(
            title=direction or '',
            xlabel='FLOP a compulsory byte',
            xscale='log',
            yscale='log',
        )
    return _finish(figure, axes, 'GFLOP/s')


def _roofs(ax: Axes, ceilings: Ceilings, low: float, high: float) -> None:
    copy, color = ceilings['copy'], '#888888'
    label = f'copy, {copy / 1e9:.0f} GB/s'
    for name, rate in ceilings.items():
        if name == 'copy':
            continue
        knee = rate / copy
        x = [low, min(max(knee, low), high), high]
        y = [min(copy * value, rate) / 1e9 for value in x]
        ax.plot(x, y, color=color, linewidth=1, zorder=1, label=label)
        ax.annotate(
            f'matmul, {name.removeprefix("matmul_")}',
            (high, y[-1]),
            xytext=(0, 3),
            textcoords='offset points',
            ha='right',
            fontsize=8,
            color='#666666',
        )


def plot_nodes(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Time and memory against the number of nodes."""
    records = [r for r in records if 'ms' in r.metrics]
    if len(_distinct(records, 'nodes')) < 2:
        return None
    dtype = records[0].labels['dtype']
    records = [r for r in records if r.labels['dtype'] == dtype]
    directions = _distinct(records, 'direction')
    figure, axes = _panels(2 * len(directions))
    styles = _styles(records, ('ms', 'peak_bytes'))
    for i, direction in enumerate(directions):
        chosen = [r for r in records if r.labels['direction'] == direction]
        for ax, metric, scale, what in (
            (axes[2 * i], 'ms', 1, 'milliseconds'),
            (axes[2 * i + 1], 'peak_bytes', 1e-6, 'peak MB'),
        ):
            _lines(ax, chosen, styles, 'nodes', metric, scale)
            ax.set(title=f'{direction}, {dtype}: {what}', xlabel='nodes')
            ax.set_yscale('log')
            _log_x(ax, _distinct(chosen, 'nodes'))
    return _finish(figure, axes, '')


def plot_phases(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Seconds of an epoch by phase, with a bar per graph and mode."""
    records = [r for r in records if 'epoch_s' in r.metrics]
    if not records:
        return None
    figure, axes = _panels(1)
    ax = axes[0]
    names = [' '.join(map(str, r.labels.values())) for r in records]
    left = [0.0] * len(records)
    for phase, color in PHASES.items():
        width = [r.metrics.get(f'{phase}_s', 0.0) for r in records]
        ax.barh(names, width, 0.6, left, color=color, label=phase)
        left = [a + b for a, b in zip(left, width)]
    for i, record in enumerate(records):
        peak = record.metrics['peak_bytes'] / 1e9
        text = f' {record.metrics["epoch_s"]:.3g} s, {peak:.2f} GB'
        ax.text(left[i], i, text, va='center', fontsize=9)
    ax.set(
        title='an epoch, and its peak of memory',
        xlabel='seconds (in numbers: without evaluation)',
        xlim=(0, 1.4 * max(left)),
        ylim=(len(records) - 0.2, -0.8),
    )
    figure = _finish(figure, axes, '')
    ax.grid(visible=False, axis='y')
    return figure


def plot_growth(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Time and memory of an epoch per edge; linear growth is flat."""
    records = [r for r in records if 'us_per_edge' in r.metrics]
    if len(records) < 2:
        return None
    figure, axes = _panels(2)
    edges = [r.labels['edges'] for r in records]
    for phase, color in PHASES.items():
        name = f'{phase}_us_per_edge'
        y = [r.metrics[name] for r in records if name in r.metrics]
        if len(y) == len(edges):
            axes[0].plot(edges, y, 'o-', color=color, label=phase)
    y = [r.metrics['us_per_edge'] for r in records]
    axes[0].plot(edges, y, 'o-', color='black', linewidth=2.5, label='epoch')
    axes[0].set(title='microseconds an epoch per edge')
    y = [r.metrics['bytes_per_edge'] for r in records]
    axes[1].plot(edges, y, 'o-', color='black')
    axes[1].set(title='bytes held at the peak per edge')
    for ax in axes:
        ax.set(xlabel='edges', ylim=(0, 1.05 * ax.get_ylim()[1]))
        _log_x(ax, edges)
    return _finish(figure, axes, '')


def draw(
    plot: Callable, records: Sequence[Record], ceilings: Ceilings, path: Path
) -> bool:
    """Writes a figure, if any. Needs no display."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure = plot(records, ceilings)
    if figure is None:
        return False
    with atomic_path(str(path)) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches='tight', format='png')
    pyplot.close(figure)
    return True


def _base(records: Sequence[Record], along: str) -> list[Record]:
    # The records of the first record's type and direction and, against edges,
    # of the middle number of channels.
    records = [r for r in records if 'ms' in r.metrics]
    if not records:
        return []
    fixed = {k: records[0].labels[k] for k in ('dtype', 'direction')}
    out = [r for r in records if fixed.items() <= r.labels.items()]
    if along == 'edges':
        channels = _distinct(out, 'channels')
        middle = channels[len(channels) // 2]
        out = [r for r in out if r.labels['channels'] == middle]
    return out


def _distinct(records: Sequence[Record], label: str) -> list[Any]:
    values = list(dict.fromkeys(r.labels[label] for r in records))
    numbers = all(isinstance(value, int) for value in values)
    return sorted(values) if numbers else values


def _styles(
    records: Sequence[Record], metrics: Sequence[str] = ('ms',)
) -> dict[str, dict[str, Any]]:
    # More colors could not be told apart: ours, the fastest peers and all that
    # beat ours somewhere have names, and the others are gray.
    times: dict[str, list[float]] = {}
    for r in records:
        if 'ms' in r.metrics:
            ms = r.metrics.get('speedup', r.metrics['ms'])
            times.setdefault(r.labels['backend'], []).append(ms)
    others = sorted(times, key=lambda name: geometric_mean(times[name]))
    peers = [name for name in others if name.startswith('peer')]
    out: dict[str, dict[str, Any]] = {}
    if 'ours' in times:
        others.remove('ours')
        out['ours'] = {'color': 'black', 'linewidth': 2.5, 'zorder': 4}
    rivals = (peers if 'ours' in times and peers else others)[:NUM_RIVALS]
    winners = _winners(records, metrics)
    named = [name for name in others if name in rivals or name in winners]
    for i, name in enumerate(named):
        marker = MARKERS[i // len(COLORS) % len(MARKERS)]
        color = COLORS[i % len(COLORS)]
        out[name] = {'color': color, 'marker': marker, 'zorder': 3}
    out = {k: {'label': k, 'marker': 'o', **v} for k, v in out.items()}
    grey = {'color': '#cccccc', 'marker': '.', 'linewidth': 1, 'zorder': 2}
    return out | {name: grey for name in others if name not in out}


def _winners(records: Sequence[Record], metrics: Sequence[str]) -> set[str]:
    """The backends that need less than ours for some problem."""
    ours: dict[tuple, Record] = {}
    for r in records:
        if r.labels.get('backend') == 'ours':
            ours[_problem(r)] = r
    return {
        r.labels['backend']
        for r in records
        for name in metrics
        if (own := ours.get(_problem(r))) is not None
        and {name} <= r.metrics.keys() & own.metrics.keys()
        and r.metrics[name] < BEATS * own.metrics[name]
    }


def _problem(record: Record) -> tuple:
    return tuple(v for k, v in record.labels.items() if k != 'backend')


def _lines(
    ax: Axes,
    records: Sequence[Record],
    styles: dict[str, dict[str, Any]],
    label: str,
    metric: str,
    scale: float = 1.0,
) -> None:
    for backend, style in styles.items():
        chosen = [
            r
            for r in records
            if r.labels['backend'] == backend and metric in r.metrics
        ]
        chosen.sort(key=lambda r: r.labels[label])
        x = [r.labels[label] for r in chosen]
        y = [scale * r.metrics[metric] for r in chosen]
        ax.plot(x, y, **{'markersize': 4, **style})


def _log_x(ax: Axes, values: Sequence[int]) -> None:
    # Ticks at measured values, unless they would touch.
    from matplotlib.ticker import FixedLocator, NullLocator

    ticks: list[int] = []
    for value in sorted(values):
        if not ticks or value >= 1.9 * ticks[-1]:
            ticks.append(value)
    if len(ticks) > 6:
        ticks = ticks[::2]
    ax.set_xscale('log')
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: short(value))


def short(value: float) -> str:
    """59541 as 59.5k."""
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= size:
            return f'{value / size:.3g}{unit}'
    return f'{value:.3g}'


def _panels(count: int, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    columns = min(count, 3 if count != 4 else 2)
    rows = -(-count // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(7 if count == 1 else 4.6 * columns, 4 * rows),
        squeeze=False,
        sharey=sharey,
        layout='constrained',
    )
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])


def _finish(figure: Figure, axes: Sequence[Axes], ylabel: str) -> Figure:
    handles: dict[str, Any] = {}
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[['top', 'right']].set_visible(False)
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    if ylabel:
        figure.supylabel(ylabel, fontsize='medium')
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc='outside right center',
            frameon=False,
            fontsize=9,
        )
    return figure
