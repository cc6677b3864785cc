r"""Items without any training interaction: metrics on the test interactions
with them alone, while all items are ranked.

    python -m examples.experiments.cold_items --dataset tiktok --root ROOT \
        --modalities image audio
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
from examples.experiments.table import markdown_table, mean_and_deviation

METRICS = ('recall@20', 'ndcg@20')


def main():
    parser = make_parser(__doc__)
    add_models(parser)
    args = parser.parse_args()
    experiment = Experiment('cold_items', args)
    store = experiment.data[OBSERVED]
    test, num_items = (
        store.test_edge_label_index,
        experiment.data['item'].num_nodes,
    )
    seen = torch.zeros(num_items, dtype=torch.bool)
    seen[store.edge_index[1]] = True
    parts = {
        'all': test,
        'seen items': test[:, seen[test[1]]],
        'unseen items': test[:, ~seen[test[1]]],
    }
    num_cold = parts['unseen items'].size(1)
    if num_cold == 0:
        raise ValueError(
            f"'dataset' needs test interactions with items unseen in training "
            f'(got none of {test.size(1)} in {args.dataset!r})'
        )

    values, runs = {}, {}
    for model in args.models:
        runs[model] = experiment.tuned_runs(model)
        values[model] = {
            part: [run.evaluate_on(experiment.data, i) for run in runs[model]]
            for part, i in parts.items()
        }

    table = markdown_table(
        [
            'model',
            *(
                f'{m}, {part} ({i.size(1)})'
                for m in METRICS
                for part, i in parts.items()
            ),
        ],
        [
            [
                model,
                *(
                    mean_and_deviation([v[m] for v in of[part]])
                    for m in METRICS
                    for part in parts
                ),
            ]
            for model, of in values.items()
        ],
    )
    figure = new_figure(10, 3.6)
    shown = [('recall@20', 'all'), ('recall@20', 'unseen items')]
    chance = 20 / num_items
    for axes, (m, part) in zip(figure.subplots(1, 2), shown):
        draw_bars(
            {
                'runs': {
                    model: [v[m] for v in of[part]]
                    for model, of in values.items()
                }
            },
            axes,
        )
        axes.axhline(chance, color='#c94f6d', linestyle='--', linewidth=1.2)
        axes.annotate(
            f'random ranking, {chance:.4f}',
            (1, chance),
            xycoords=('axes fraction', 'data'),
            xytext=(0, 3),
            textcoords='offset points',
            ha='right',
            fontsize=8,
            color='#c94f6d',
        )
        axes.set_title(
            f'{metric_name(m)}, {parts[part].size(1)} test interactions '
            f'({part})',
            fontsize=10,
        )
    figure.suptitle(f'Items of {args.dataset} unseen in training')
    experiment.write(
        f'Items of {args.dataset} unseen in training',
        'Test metrics of the epoch chosen by validation, ranking all items, '
        'over the test interactions with items that have training '
        'interactions and with those that have none (their numbers in '
        f'brackets), seeds {", ".join(map(str, args.seeds))}. A random '
        f'ranking has a recall@20 of about {chance:.4f}.\n\n{table}',
        figure,
        {
            'num_test_interactions': {
                part: i.size(1) for part, i in parts.items()
            },
            'random_recall': chance,
            'items': values,
            'models': {
                name: [run.summary() for run in of] for name, of in runs.items()
            },
        },
    )


if __name__ == '__main__':
    start(main)
