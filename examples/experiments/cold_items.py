r"""Metrics on the test interactions with cold items, which have no training
interaction, in a ranking of all items and in a ranking of cold items only.

    python -m examples.experiments.cold_items --dataset tiktok --root ROOT \
        --modalities image audio
"""

import torch

from diffmm_geo.evaluation import evaluate, evaluate_cold
from examples.experiments.experiment import (
    Experiment,
    add_models,
    make_parser,
    start,
)
from examples.experiments.models import MODELS
from examples.experiments.plots import COLORS, draw_bars, new_figure
from examples.experiments.run_store import OBSERVED
from examples.experiments.table import means_table, of_seeds, summaries

METRICS = ('recall@20', 'ndcg@20')
AMONG = 'cold items among themselves'
# Models whose scores are also shown summed.
SUM = ['DiffMM', 'ItemGraph']


def rescale(item_emb, cold, scale):
    r"""Gives cold items embeddings of one length, a multiple of the mean norm
    of others. They are only negative items in training, which makes their
    embeddings short.
    """
    norm = item_emb.norm(dim=1, keepdim=True)
    length = scale * norm[~cold].mean() / norm.masked_fill(norm == 0, 1.0)
    return torch.where(cold.view(-1, 1), length * item_emb, item_emb)


def add_scores(embeddings):
    r"""Embeddings whose scores are the sums of the scores of others, which are
    first divided by their standard deviation, the mean over some users.
    """
    users = []
    for user_emb, item_emb in embeddings:
        some = user_emb[:: max(1, len(user_emb) // 1024)][:1024]
        deviation = (some @ item_emb.t()).std(dim=1, correction=0).mean()
        users.append(user_emb / deviation.where(deviation > 0, 1.0))
    items = [item_emb for _, item_emb in embeddings]
    return torch.cat(users, dim=1), torch.cat(items, dim=1)


def main():
    parser = make_parser(__doc__)
    add_models(parser)
    parser.add_argument(
        '--cold-scale',
        type=float,
        default=3.0,
        help='also show models with features whose cold items have embeddings '
        'of this multiple of the mean norm (default: 3)',
    )
    args = parser.parse_args()
    experiment = Experiment('cold_items', args)
    store = experiment.data[OBSERVED]
    test = store.test_edge_label_index
    num_items = experiment.data['item'].num_nodes
    seen = torch.zeros(num_items, dtype=torch.bool)
    seen[store.edge_index[1]] = True
    num_cold = int((~seen).sum())
    parts = {
        'all': test,
        'seen items': test[:, seen[test[1]]],
        'cold items': test[:, ~seen[test[1]]],
    }
    if parts['cold items'].size(1) == 0:
        raise ValueError(
            f"'dataset' needs test interactions with items unseen in training "
            f'(got none of {test.size(1)} in {args.dataset!r})'
        )
    chance = {'all': 20 / num_items, 'cold items': 20 / num_items}
    if num_cold > 20:  # A ranking of at most 20 items holds all of them.
        parts[AMONG] = parts['cold items']
        chance[AMONG] = 20 / num_cold

    def metrics_of(fused, scale, part):
        observed, embeddings = store.edge_index, []
        for run in fused:
            user_emb, item_emb = run.embeddings
            if scale is not None:
                item_emb = rescale(item_emb, ~seen, scale)
            embeddings.append((user_emb, item_emb))
        user_emb, item_emb = add_scores(embeddings)
        if part == AMONG:
            return evaluate_cold(
                user_emb, item_emb, test, observed, candidates='cold'
            )
        k = fused[0].result['config']['k']
        return evaluate(user_emb, item_emb, parts[part], observed, k)

    runs = {model: experiment.tuned_runs(model) for model in args.models}
    with_features = [m for m in runs if MODELS[m].uses_features]
    rows = {model: ([model], None) for model in runs}
    rows |= {f'{m}, scaled': ([m], args.cold_scale) for m in with_features}
    if set(SUM) <= set(with_features):
        rows[' + '.join(SUM)] = (SUM, None)
        rows[' + '.join(SUM) + ', scaled'] = (SUM, args.cold_scale)
    values = {
        row: {
            part: [
                metrics_of(fused, scale, part)
                for fused in zip(*(runs[model] for model in models))
            ]
            for part in parts
        }
        for row, (models, scale) in rows.items()
    }
    table = means_table(
        [
            'model',
            *(
                f'{m}, {part} ({i.size(1)})'
                for m in METRICS
                for part, i in parts.items()
            ),
        ],
        {
            model: [[v[m] for v in of[part]] for m in METRICS for part in parts]
            for model, of in values.items()
        },
    )
    figure = new_figure(4.6 * len(chance), 4.4)
    for axes, (part, line) in zip(
        figure.subplots(1, len(chance)), chance.items()
    ):
        draw_bars(
            {
                'runs': {
                    model: [v['recall@20'] for v in of[part]]
                    for model, of in values.items()
                }
            },
            axes,
            values_above=line,
        )
        at_random = axes.axhline(
            line, color=COLORS[4], linestyle='--', linewidth=1.4
        )
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha='right', fontsize=8)
        axes.margins(y=0.3)
        axes.legend(
            [at_random], [f'at random, {line:.4f}'], frameon=False, fontsize=8
        )
        axes.set_title(
            f'{part}\n{parts[part].size(1):,} test interactions', fontsize=10
        )
    figure.suptitle(f'Recall@20 on {args.dataset}: cold items')
    experiment.write(
        f'Cold items of {args.dataset}',
        'Test metrics of the epoch chosen by validation, '
        f'{of_seeds(args.seeds)}. Seen items have training interactions, the '
        f'{num_cold:,} cold items have none. Brackets show the numbers of '
        'test interactions. The ranking covers all items, or only cold items. '
        'In rows named "scaled", the embeddings of cold items have '
        f'{args.cold_scale:g} times the mean norm of others. '
        'A random ranking has a recall@20 of '
        + ', '.join(f'{line:.4f} ({part})' for part, line in chance.items())
        + f'.{experiment.chosen_settings}\n\n{table}',
        figure,
        {
            'num_test_interactions': {
                part: i.size(1) for part, i in parts.items()
            },
            'num_cold_items': num_cold,
            'random_recall': chance,
            'items': values,
            'models': summaries(runs),
        },
    )


if __name__ == '__main__':
    start(main)
