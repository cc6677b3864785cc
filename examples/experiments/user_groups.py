r"""Metrics by the number of training interactions of users.

    python -m examples.experiments.user_groups --dataset tiktok --root ROOT \
        --modalities image audio --bins 4 6 10

`--bins` lists the start of each group except the first. By default, there are
four groups, as even as possible.
"""

import torch

from examples.experiments.experiment import (
    Experiment,
    add_models,
    make_parser,
    start,
)
from examples.experiments.plots import draw_bars, metric_name, new_figure
from examples.experiments.run_store import OBSERVED
from examples.experiments.table import means_table, of_seeds, summaries

METRICS = ('recall@20', 'ndcg@20')
NUM_GROUPS = 4


def even_bins(count, num_groups):
    r"""The start of each group except the first. Groups are as even as
    possible, without splitting users of the same number of interactions.
    """
    sorted_count = count.sort().values
    cuts = [
        int(sorted_count[n * count.numel() // num_groups])
        for n in range(1, num_groups)
    ]
    return sorted({cut for cut in cuts if cut > int(sorted_count[0])})


def group_names(bins):
    if not bins:
        return ['all']
    middle = [
        f'{a}' if b - a == 1 else f'{a}–{b - 1}' for a, b in zip(bins, bins[1:])
    ]
    return [f'< {bins[0]}', *middle, f'≥ {bins[-1]}']


def main():
    parser = make_parser(__doc__)
    add_models(parser)
    parser.add_argument('--bins', nargs='+', type=int)
    args = parser.parse_args()
    if args.bins is not None and sorted(set(args.bins)) != args.bins:
        raise ValueError(f"'--bins' needs to be ascending (got {args.bins})")
    experiment = Experiment('user_groups', args)

    store = experiment.data[OBSERVED]
    test = store.test_edge_label_index
    count = store.edge_index[0].bincount(
        minlength=experiment.data['user'].num_nodes
    )
    bins = args.bins or even_bins(count[test[0].unique()], NUM_GROUPS)
    group = torch.bucketize(count, torch.tensor(bins).long(), right=True)
    members = {
        name: test[:, group[test[0]] == n]
        for n, name in enumerate(group_names(bins))
    }
    members = {name: index for name, index in members.items() if index.numel()}

    runs = {model: experiment.tuned_runs(model) for model in args.models}
    values = {
        model: {
            name: [run.evaluate_on(experiment.data, i) for run in of]
            for name, i in members.items()
        }
        for model, of in runs.items()
    }
    users = {name: i[0].unique().numel() for name, i in members.items()}
    parts = [
        means_table(
            [
                f'{m}, by training interactions',
                *(f'{name} ({users[name]} users)' for name in members),
            ],
            {
                model: [[v[m] for v in of[name]] for name in members]
                for model, of in values.items()
            },
        )
        for m in METRICS
    ]
    figure = new_figure(10.5, 3.8)
    for axes, m in zip(figure.subplots(1, 2), METRICS):
        draw_bars(
            {
                model: {
                    f'{name}\n{users[name]} users': [v[m] for v in of[name]]
                    for name in members
                }
                for model, of in values.items()
            },
            axes,
        )
        axes.set(title=metric_name(m), xlabel='training interactions of users')
    axes.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
    figure.suptitle(f'Users of {args.dataset} by group: test')
    experiment.write(
        f'Users of {args.dataset} by number of interactions',
        'Test metrics of the epoch chosen by validation, over users with test '
        f'interactions, {of_seeds(args.seeds)}.{experiment.chosen_settings}\n\n'
        + '\n\n'.join(parts),
        figure,
        {
            'users': users,
            'groups': values,
            'models': summaries(runs),
        },
    )


if __name__ == '__main__':
    start(main)
