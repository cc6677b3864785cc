"""Figures of a family's records. Each returns `None` where there is too
little to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.registry import Record
from diffmm_geo.utils.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ceilings = dict[str, float]
COLOURS = (
    '#1f77b4',
    '#ff7f0e',
    '#2ca02c',
    '#9467bd',
    '#8c564b',
    '#e377c2',
    '#17becf',
    '#bcbd22',
)
PHASES = {
    'diffusion': '#1f77b4',
    'generate': '#ff7f0e',
    'recommend': '#2ca02c',
    'evaluate': '#b0b0b0',
}


def plot_channels(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Throughput against channels, a panel for each graph."""
    records = _base(records, 'channels')
    graphs = _distinct(records, 'graph')
    if len(_distinct(records, 'channels')) < 2:
        return None
    figure, axes = _panels(len(graphs))
    for ax, graph in zip(axes, graphs):
        chosen = [r for r in records if r.labels['graph'] == graph]
        _lines(ax, chosen, 'channels', 'gb_per_s')
        edges = chosen[0].labels['edges']
        ax.set(title=f'{graph}, {edges:,} edges', xlabel='channels')
        ax.set_xscale('log', base=2)
        ax.set_xticks(_distinct(chosen, 'channels'))
        ax.xaxis.set_major_formatter('{x:.0f}')
    return _finish(figure, axes, 'GB/s of compulsory bytes')


def plot_edges(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Throughput against edges."""
    records = _base(records, 'edges')
    if len(_distinct(records, 'edges')) < 2:
        return None
    figure, axes = _panels(1)
    _lines(axes[0], records, 'edges', 'edges_per_s', 1e-6)
    channels = records[0].labels['channels']
    axes[0].set(title=f'{channels} channels', xlabel='edges')
    axes[0].set_xscale('log')
    return _finish(figure, axes, 'million edges a second')


def plot_roofline(
    records: Sequence[Record], ceilings: Ceilings
) -> Figure | None:
    """FLOP a second against FLOP a byte, below what the device can do."""
    records = [r for r in records if 'flop_per_byte' in r.metrics]
    if not records:
        return None
    import numpy as np

    figure, axes = _panels(1)
    ax = axes[0]
    x = [r.metrics['flop_per_byte'] for r in records]
    x = np.geomspace(min(x) / 3, max(max(x) * 3, 100), 200)
    for name, rate in ceilings.items():
        if name == 'copy':
            continue
        roof = np.minimum(x * ceilings['copy'], rate) / 1e9
        ax.plot(x, roof, color='#888888', linewidth=1, zorder=1)
        label = f'matrix product, {name.removeprefix("matmul_")}'
        ax.annotate(
            label,
            (x[-1], roof[-1]),
            xytext=(0, 3),
            textcoords='offset points',
            ha='right',
            fontsize=8,
            color='#666666',
        )
    low = x[:40].mean()
    ax.annotate(
        f'copy, {ceilings["copy"] / 1e9:.0f} GB/s',
        (low, low * ceilings['copy'] / 1e9),
        xytext=(-4, 6),
        textcoords='offset points',
        ha='right',
        fontsize=8,
        color='#666666',
    )
    for backend, style in _styles(records).items():
        chosen = [r for r in records if r.labels['backend'] == backend]
        ax.scatter(
            [r.metrics['flop_per_byte'] for r in chosen],
            [r.metrics['gflop_per_s'] for r in chosen],
            s=34 if backend == 'ours' else 16,
            color=style['color'],
            marker=style['marker'],
            label=backend,
            zorder=3 if backend == 'ours' else 2,
        )
    ax.set(
        title='all graphs, types and directions',
        xlabel='FLOP a compulsory byte',
        xscale='log',
        yscale='log',
    )
    return _finish(figure, axes, 'GFLOP/s')


def plot_nodes(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Time and memory against the number of nodes."""
    records = [r for r in records if 'ms' in r.metrics]
    directions = _distinct(records, 'direction')
    if len(_distinct(records, 'nodes')) < 2:
        return None
    figure, axes = _panels(2 * len(directions))
    for i, direction in enumerate(directions):
        chosen = [r for r in records if r.labels['direction'] == direction]
        for ax, metric, scale, what in (
            (axes[2 * i], 'ms', 1, 'milliseconds'),
            (axes[2 * i + 1], 'peak_bytes', 1e-6, 'peak MB'),
        ):
            _lines(ax, chosen, 'nodes', metric, scale)
            ax.set(title=f'{direction}: {what}', xlabel='nodes')
            ax.set(xscale='log', yscale='log')
    return _finish(figure, axes, '')


def plot_phases(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Seconds of an epoch by phase, a bar for each graph and mode."""
    records = [r for r in records if 'epoch_s' in r.metrics]
    if not records:
        return None
    figure, axes = _panels(1)
    ax = axes[0]
    names = [' '.join(map(str, r.labels.values())) for r in records]
    left = [0.0] * len(records)
    for phase, colour in PHASES.items():
        width = [r.metrics.get(f'{phase}_s', 0.0) for r in records]
        ax.barh(names, width, 0.6, left, color=colour, label=phase)
        left = [a + b for a, b in zip(left, width)]
    for i, record in enumerate(records):
        peak = record.metrics['peak_bytes'] / 1e9
        text = f' {record.metrics["epoch_s"]:.1f} s, {peak:.2f} GB'
        ax.text(left[i], i, text, va='center', fontsize=9)
    ax.set(xlabel='seconds (labels: without evaluation)', ylim=(None, None))
    ax.set_xlim(0, 1.35 * max(left))
    ax.margins(y=0.2)
    ax.invert_yaxis()
    return _finish(figure, axes, '')


def plot_growth(records: Sequence[Record], _: Ceilings) -> Figure | None:
    """Time and memory an epoch per edge: flat is linear."""
    records = [r for r in records if 'us_per_edge' in r.metrics]
    if len(records) < 2:
        return None
    figure, axes = _panels(2)
    edges = [r.labels['edges'] for r in records]
    for phase, colour in PHASES.items():
        name = f'{phase}_us_per_edge'
        y = [r.metrics[name] for r in records if name in r.metrics]
        if len(y) == len(edges):
            axes[0].plot(edges, y, 'o-', color=colour, label=phase)
    y = [r.metrics['us_per_edge'] for r in records]
    axes[0].plot(edges, y, 'o-', color='black', linewidth=2.5, label='epoch')
    axes[0].set(title='microseconds an epoch per edge')
    y = [r.metrics['bytes_per_edge'] for r in records]
    axes[1].plot(edges, y, 'o-', color='black')
    axes[1].set(title='bytes held at the peak per edge')
    for ax in axes:
        ax.set(xlabel='edges', xscale='log', yscale='log')
    return _finish(figure, axes, '')


def draw(
    plot: Callable, records: Sequence[Record], ceilings: Ceilings, path: Path
) -> bool:
    """Writes a figure, if there is one, without a display."""
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
    # Those on the line through the first record's type and direction; along
    # the edges, through the middle of channels as well.
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


def _styles(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    # What is ours is solid and round, peers are dashed and square.
    out: dict[str, dict[str, Any]] = {}
    names = dict.fromkeys(r.labels['backend'] for r in records)
    ours = [n for n in names if n != 'ours' and not n.startswith('peer')]
    peers = [n for n in names if n.startswith('peer')]
    for i, name in enumerate(ours):
        out[name] = {'color': COLOURS[i % 8], 'linestyle': '-', 'marker': 'o'}
    for i, name in enumerate(peers):
        out[name] = {'color': COLOURS[i % 8], 'linestyle': ':', 'marker': 's'}
    if 'ours' in names:
        out['ours'] = {
            'color': 'black',
            'linestyle': '-',
            'marker': 'o',
            'linewidth': 2.5,
        }
    return out


def _lines(
    ax: Axes,
    records: Sequence[Record],
    label: str,
    metric: str,
    scale: float = 1.0,
) -> None:
    for backend, style in _styles(records).items():
        chosen = [
            r
            for r in records
            if r.labels['backend'] == backend and metric in r.metrics
        ]
        chosen.sort(key=lambda r: r.labels[label])
        x = [r.labels[label] for r in chosen]
        y = [scale * r.metrics[metric] for r in chosen]
        ax.plot(x, y, **{'markersize': 4, **style}, label=backend)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    columns = min(count, 3 if count != 4 else 2)
    rows = -(-count // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(7 if count == 1 else 4.6 * columns, 4 * rows),
        squeeze=False,
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
