r"""The contribution of each part of DiffMM.

    python -m examples.experiments.ablation --dataset tiktok --root ROOT \
        --modalities image audio --seeds 0 1 2

- without diffusion: aggregates no generated graph, and takes the modality views
  over the observed graph (with the same edge dropout)
- without contrast: has no cross-modal contrastive loss
- without MSI: trains denoisers without the modality-aware signal injection, or
  with it (weight 0.1) if the settings have none
- the other anchor of the contrastive loss
- random edges: draws as many edges as the diffusion generates, uniformly
"""

from examples.experiments.experiment import (
    METRICS,
    Experiment,
    make_parser,
    start,
)
from examples.experiments.plots import draw_dots
from examples.experiments.table import about, runs_table, summaries


def variants(config):
    (other,) = {'main', 'modality'} - {config.anchor}
    has_msi = config.msi_weight > 0
    msi = ('without MSI', 0.0) if has_msi else ('with MSI', 0.1)
    return {
        f'DiffMM (anchor: {config.anchor})': {},
        'without diffusion': {
            'generator': 'observed',
            'generated_weight': 0.0,
        },
        'without contrast': {'ssl_weight': 0.0},
        msi[0]: {'msi_weight': msi[1]},
        f'anchor: {other}': {'anchor': other},
        'random edges': {'generator': 'random'},
    }


def main():
    args = make_parser(__doc__).parse_args()
    experiment = Experiment('ablation', args)
    config = experiment.config('DiffMM', args.seeds[0])
    chosen = variants(config)
    runs = {name: [] for name in chosen}
    for n, seed in enumerate(args.seeds, start=1):
        for name, changes in chosen.items():
            runs[name].append(experiment.run('DiffMM', seed, **changes))
        # The results so far.
        report(experiment, chosen, runs, args.seeds[:n])


def report(experiment, chosen, runs, seeds):
    dataset = experiment.args.dataset
    figure = draw_dots(
        runs, f'Ablation on {dataset}: test, epoch chosen by validation'
    )
    experiment.write(
        f'Ablation on {dataset}',
        f'{about(seeds)}\n\n{runs_table("variant", runs, METRICS)}',
        figure,
        {
            'variants': {
                name: {'changes': chosen[name], 'runs': of}
                for name, of in summaries(runs).items()
            }
        },
    )


if __name__ == '__main__':
    start(main)
