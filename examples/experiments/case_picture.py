r"""The figure of the case study: a user and their items as a bipartite graph,
with the items as the rows of one heat map per modality.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from examples.experiments.plots import COLORS, GREY, new_figure


def draw_case(
    user: str,
    names: Sequence[str],
    observed: Sequence[bool],
    held_out: Sequence[bool],
    generated: Mapping[str, Sequence[int]],
    similarity: Mapping[str, Any],
    title: str,
) -> Any:
    r"""Draws a user's edges.

    Args:
        user (str): The label of the user.
        names (list[str]): The labels of the items, observed ones first.
        observed (list[bool]): Which items are observed.
        held_out (list[bool]): Which items are held out.
        generated (dict[str, list[int]]): For each modality, the rows of the
            generated items.
        similarity (dict[str, torch.Tensor]): For each modality, the
            similarity of all items.
        title (str): The title.
    """
    num_items, num_maps = len(names), len(similarity)
    height = max(3.4, 0.36 * num_items + 1.9)
    figure = new_figure(5.6 + 3.6 * num_maps, height)
    panels = figure.subplots(
        1, 1 + num_maps, width_ratios=[1.45, *[1.0] * num_maps]
    )
    _draw_graph(panels[0], user, names, observed, held_out, generated)
    limit = max(
        0.3,
        *(
            float((x - x.diag().diag()).abs().max())
            for x in similarity.values()
        ),
    )
    num_observed = sum(observed)
    for axes, (m, matrix) in zip(panels[1:], similarity.items()):
        matrix = matrix.clone()
        matrix.fill_diagonal_(float('nan'))  # Says nothing.
        image = axes.imshow(
            matrix.numpy(),
            cmap='RdBu_r',
            vmin=-limit,
            vmax=limit,
            aspect='auto',
            interpolation='nearest',
        )
        for cut in (axes.axhline, axes.axvline):
            cut(num_observed - 0.5, color='#222222', linewidth=1)
        axes.set_title(f'similarity by {m}', fontsize=10)
        axes.set_yticks([])
        # Columns show the same items, in the colors of their edges.
        axes.set_xticks([])
        middle = (num_observed - 1) / 2, (num_observed + num_items - 1) / 2
        for x, text in zip(middle, ('observed', 'generated')):
            if (text == 'observed') or num_items > num_observed:
                axes.text(
                    x,
                    num_items - 0.35,
                    text,
                    ha='center',
                    va='top',
                    fontsize=8,
                    color=GREY,
                )
        axes.spines[:].set_visible(False)
        _mark_generated(axes, generated, num_items)
    bar = figure.colorbar(
        image, ax=panels[-1], shrink=0.8, label='cosine similarity'
    )
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=12)
    return figure


def _draw_graph(
    axes: Any,
    user: str,
    names: Sequence[str],
    observed: Sequence[bool],
    held_out: Sequence[bool],
    generated: Mapping[str, Sequence[int]],
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    num_items, middle = len(names), (len(names) - 1) / 2
    edges = [(n, '#9a9a9a', 'observed') for n, o in enumerate(observed) if o]
    for color, (m, rows) in zip(COLORS, generated.items()):
        edges += [(n, color, m) for n in rows]
    done: dict[int, int] = {}
    for n, color, _ in edges:
        # Draws edges to the same item side by side.
        turn = 0.06 * done.get(n, 0) * (1 if n < middle else -1)
        done[n] = done.get(n, 0) + 1
        axes.add_patch(
            FancyArrowPatch(
                (0.06, middle),
                (0.46, n),
                connectionstyle=f'arc3,rad={turn}',
                arrowstyle='-',
                color=color,
                linewidth=1.3 if color == '#9a9a9a' else 2.0,
                alpha=0.9,
                zorder=1,
                shrinkA=0,
                shrinkB=0,
            )
        )
    axes.scatter([0.06], [middle], s=420, color='#333333', zorder=3)
    axes.annotate(
        user,
        (0.06, middle),
        xytext=(0, 17),
        textcoords='offset points',
        ha='center',
        fontsize=9,
        fontweight='bold',
    )
    for n, name in enumerate(names):
        color = '#9a9a9a' if observed[n] else '#ffffff'
        axes.scatter(
            [0.46],
            [n],
            s=62,
            color=color,
            edgecolors='#333333' if observed[n] else GREY,
            linewidths=1.1,
            zorder=3,
        )
        axes.text(
            0.5,
            n,
            (name if len(name) <= 34 else f'{name[:33]}…')
            + ('  ★' if held_out[n] else ''),
            va='center',
            fontsize=9,
            color='#111111' if observed[n] else '#333333',
            fontstyle='normal' if observed[n] else 'italic',
        )
    marks = [Line2D([], [], color='#9a9a9a', label='observed')]
    for color, m in zip(COLORS, generated):
        marks.append(
            Line2D([], [], color=color, linewidth=2, label=f'generated by {m}')
        )
    if any(held_out):
        marks.append(
            Line2D(
                [],
                [],
                color='none',
                marker='$★$',
                markeredgecolor='#111111',
                label='held out',
            )
        )
    axes.legend(
        handles=marks,
        loc='upper center',
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(len(marks), 4),
        frameon=False,
        fontsize=8.5,
        columnspacing=1.2,
    )
    axes.set(xlim=(0, 1.25), ylim=(num_items - 0.5, -0.5))
    axes.set_axis_off()


def _mark_generated(
    axes: Any,
    generated: Mapping[str, Sequence[int]],
    num_items: int,
) -> None:
    r"""Marks the modalities that generated an item, left of its row."""
    marked: dict[int, int] = {}
    for color, rows in zip(COLORS, generated.values()):
        for n in rows:
            axes.plot(
                [-0.012 - 0.02 * marked.get(n, 0)] * 2,
                [n - 0.4, n + 0.4],
                transform=axes.get_yaxis_transform(),
                color=color,
                linewidth=3,
                clip_on=False,
                solid_capstyle='butt',
            )
            marked[n] = marked.get(n, 0) + 1
    axes.set_ylim(num_items - 0.5, -0.5)
