r"""Compares DiffMM with other recommenders under one protocol: the same
negative sampling, evaluation and choice of the epoch by validation.

    python -m examples.experiments.comparison --dataset tiktok --root ROOT \
        --modalities image audio --seeds 0 1 2

Validation on the first seed chooses the settings of baselines from the grids in
models.py. DiffMM uses the recipe of its authors if there is one. Floors need no
training: popularity, neighborhoods, a linear autoencoder and a random walk.
"""

from examples.experiments.experiment import (
    METRICS,
    Experiment,
    add_models,
    make_parser,
    start,
)
from examples.experiments.models import FLOORS, MODELS
from examples.experiments.plots import draw_dots
from examples.experiments.table import about, runs_table, summaries


def main():
    parser = make_parser(__doc__)
    add_models(parser, [*MODELS, *FLOORS])
    args = parser.parse_args()
    experiment = Experiment('comparison', args)
    runs = {name: experiment.tuned_runs(name) for name in args.models}

    floors = [name for name in runs if name in FLOORS]
    note = f' Without training: {", ".join(floors)}.' if floors else ''
    figure = draw_dots(
        runs, f'Models on {args.dataset}: test, epoch chosen by validation'
    )
    experiment.write(
        f'Models on {args.dataset}',
        f'{about(args.seeds)}{experiment.chosen_settings}{note}\n\n'
        f'{runs_table("model", runs, METRICS)}',
        figure,
        {'models': summaries(runs)},
    )


if __name__ == '__main__':
    start(main)
