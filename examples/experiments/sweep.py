r"""Trains a model with several values of one setting.

    python -m examples.experiments.sweep --dataset tiktok --root ROOT \
        --modalities image audio --parameter ssl_weight \
        --values 1e-3 1e-2 1e-1
"""

import ast
from dataclasses import fields

from examples.experiments.experiment import (
    METRICS,
    Experiment,
    make_parser,
    start,
)
from examples.experiments.models import MODELS
from examples.experiments.plots import draw_lines, log_scale, new_figure
from examples.experiments.table import means_table, of_seeds, values_of


def parse_value(text):
    r"""A Python literal, or else a string."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--model', choices=MODELS, default='DiffMM')
    parser.add_argument('--parameter', required=True)
    parser.add_argument('--values', nargs='+', type=parse_value, required=True)
    args = parser.parse_args()
    names = [f.name for f in fields(MODELS[args.model].config(args.dataset))]
    if args.parameter not in names or args.parameter == 'seed':
        raise ValueError(
            f"'--parameter' needs to be a setting of {args.model}, one of "
            f'{[n for n in names if n != "seed"]} (got {args.parameter!r})'
        )
    experiment = Experiment('sweep', args)
    values = list(dict.fromkeys(args.values))
    for value in values:  # Checks all values before training.
        experiment.config(args.model, 0, **{args.parameter: value})
    runs = {
        value: experiment.runs(args.model, **{args.parameter: value})
        for value in values
    }

    def val(of):
        return [run.result['best_val']['val']['recall@20'] for run in of]

    table = means_table(
        [
            args.parameter,
            'validation recall@20',
            *(f'test {m}' for m in METRICS),
        ],
        {
            value: [val(of), *(values_of(of, m) for m in METRICS)]
            for value, of in runs.items()
        },
    )
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    numeric = all(is_number(value) for value in values)
    shown = sorted(values) if numeric else values
    draw_lines(
        {
            'validation': {v: val(runs[v]) for v in shown},
            'test': {v: values_of(runs[v], 'recall@20') for v in shown},
        },
        axes,
        numeric,
    )
    if numeric and min(values) > 0 and max(values) >= 10 * min(values):
        log_scale(axes)
    axes.set(
        xlabel=args.parameter,
        ylabel='Recall@20',
        title=f'{args.model} on {args.dataset}',
    )
    axes.legend(frameon=False)
    experiment.write(
        f'{args.parameter} of {args.model} on {args.dataset}',
        'Metrics of the epoch chosen by validation, '
        f'{of_seeds(args.seeds)}.\n\n{table}',
        figure,
        {
            'model': args.model,
            'parameter': args.parameter,
            'values': [
                {'value': value, 'runs': [run.summary() for run in of]}
                for value, of in runs.items()
            ],
        },
        suffix=args.parameter.replace('_', '-'),
    )


if __name__ == '__main__':
    start(main)
