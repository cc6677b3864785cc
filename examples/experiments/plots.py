r"""The style of all figures, and the plots that several experiments share."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from examples.experiments.run_store import Run
from examples.experiments.table import values_of

COLORS = (
    '#3b6fb6',
    '#e07b39',
    '#4c9f70',
    '#9a60b4',
    '#c94f6d',
    '#7f7f7f',
    '#2aa1b3',
    '#b8a038',
)
GREY = '#6b6b6b'


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def tidy(axes: Any, grid: str = 'y') -> None:
    r"""Removes the frame, and draws a faint grid behind the data."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis=grid, color='#dddddd', linewidth=0.8)
    axes.set_axisbelow(True)


def log_scale(axes: Any) -> None:
    r"""Makes an axis logarithmic, with several labels that do not overlap, also
    within a decade or two.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale('log')
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high < 100 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))


def metric_name(metric: str) -> str:
    name, _, k = metric.partition('@')
    return f'{"NDCG" if name == "ndcg" else name.capitalize()}@{k}'


def draw_dots(runs: Mapping[str, Sequence[Run]], title: str) -> Any:
    r"""Draws a row per name and a panel per metric, with a dot per seed and a
    bar at their mean. The first row is the reference.
    """
    figure = new_figure(9.8, 0.46 * len(runs) + 1.5)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, ('recall@20', 'ndcg@20')):
        for y, of in enumerate(runs.values()):
            x, color = values_of(of, metric), COLORS[0 if y == 0 else 5]
            if y == 0:
                axes.axvline(
                    mean(x), color=color, linewidth=1, linestyle=':', zorder=1
                )
            axes.plot(
                [mean(x)] * 2, [y - 0.27, y + 0.27], color=color, linewidth=3
            )
            axes.scatter(
                x,
                [y] * len(x),
                s=34,
                color=color,
                alpha=0.6,
                linewidths=0,
                zorder=3,
            )
            axes.annotate(
                f'{mean(x):.4f}',
                (1.02, y),
                xycoords=('axes fraction', 'data'),
                va='center',
                fontsize=9,
                color=color,
            )
        axes.locator_params(axis='x', nbins=4)
        axes.set_yticks(range(len(runs)), list(runs))
        axes.set_ylim(len(runs) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.locator_params(axis='x', nbins=5)
        axes.set_title(metric_name(metric), fontsize=11)
        axes.tick_params(axis='y', length=0)
        tidy(axes, grid='x')
        axes.spines['left'].set_visible(False)
    figure.suptitle(title, fontsize=12)
    return figure


def draw_lines(
    lines: Mapping[str, Mapping[Any, Sequence[float]]],
    axes: Any,
    numeric: bool = True,
) -> None:
    r"""Draws means over values, with standard deviations and a dot per seed."""
    for n, (name, points) in enumerate(lines.items()):
        x = list(points) if numeric else list(range(len(points)))
        spread = [stdev(v) if len(v) > 1 else 0.0 for v in points.values()]
        axes.errorbar(
            x,
            [mean(v) for v in points.values()],
            yerr=spread if any(spread) else None,
            color=COLORS[n],
            marker='o',
            markersize=5,
            capsize=3,
            linewidth=1.8,
            label=name,
        )
    if not numeric:
        axes.set_xticks(range(len(points)), [str(v) for v in points])
    else:
        axes.locator_params(axis='x', nbins=6)
    tidy(axes)


def draw_bars(
    bars: Mapping[str, Mapping[str, Sequence[float]]],
    axes: Any,
    values_above: float | None = None,
) -> None:
    r"""Draws groups of bars: for each name, the mean in each group, with a dot
    per seed if there are several. Writes means on top of the bars, at least
    above a value if it is given.
    """
    width = 0.8 / len(bars)
    for n, (name, groups) in enumerate(bars.items()):
        x = [g + (n - (len(bars) - 1) / 2) * width for g in range(len(groups))]
        axes.bar(
            x,
            [mean(v) for v in groups.values()],
            0.92 * width,
            color=COLORS[n],
            alpha=0.85,
            label=name,
        )
        for x_bar, values in zip(x, groups.values()):
            if values_above is not None:
                axes.annotate(
                    f'{mean(values):.4f}',
                    (x_bar, max(values_above, *values)),
                    xytext=(0, 4),
                    textcoords='offset points',
                    ha='center',
                    fontsize=8.5,
                )
            if len(values) > 1:
                axes.scatter(
                    [x_bar] * len(values),
                    values,
                    s=9,
                    color='#222222',
                    alpha=0.6,
                    linewidths=0,
                    zorder=3,
                )
    axes.set_xticks(range(len(groups)), list(groups))
    tidy(axes)
