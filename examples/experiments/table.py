r"""Tables in Markdown."""

from collections.abc import Sequence
from statistics import mean, stdev


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, x))} |' for x in lines)


def mean_and_deviation(values: Sequence[float]) -> str:
    r"""The mean, and the deviation where there is more than one value."""
    if len(values) == 1:
        return f'{values[0]:.4f}'
    return f'{mean(values):.4f} ± {stdev(values):.4f}'
