r"""Tables in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from examples.experiments.run_store import Run


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, x))} |' for x in lines)


def mean_and_deviation(values: Sequence[float]) -> str:
    r"""The mean, and the standard deviation of several values."""
    if len(values) == 1:
        return f'{values[0]:.4f}'
    return f'{mean(values):.4f} ± {stdev(values):.4f}'


def means_table(
    header: Sequence[str],
    rows: Mapping[Any, Sequence[Sequence[float]]],
) -> str:
    r"""A row for each name. Each cell summarizes several values."""
    return markdown_table(
        header,
        [
            [name, *map(mean_and_deviation, cells)]
            for name, cells in rows.items()
        ],
    )


def runs_table(
    what: str,
    runs: Mapping[str, Sequence[Run]],
    metrics: Sequence[str],
) -> str:
    r"""A row of test metrics for the runs of each name."""
    return means_table(
        [what, *metrics, 'recall@20, best test epoch'],
        {
            name: [
                *(values_of(of, m) for m in metrics),
                values_of(of, 'recall@20', 'best_test'),
            ]
            for name, of in runs.items()
        },
    )


def summaries(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    r"""The entry of runs in the JSON of an experiment."""
    return {name: [run.summary() for run in of] for name, of in runs.items()}


def values_of(
    runs: Sequence[Run],
    metric: str,
    best: str = 'best_val',
) -> list[float]:
    r"""A test metric of each run."""
    return [run.metrics(best)[metric] for run in runs]


def about(seeds: Sequence[int]) -> str:
    r"""The description of :func:`runs_table`."""
    return (
        f'Test metrics of the epoch chosen by validation, {of_seeds(seeds)}. '
        f'The last column shows the best test epoch, which is selected on the '
        f'test set.'
    )


def of_seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f'seed {seeds[0]}'
    numbers = ', '.join(map(str, seeds))
    return f'mean and standard deviation over seeds {numbers}'
