r"""Test Recall on cold items, which have no training interaction: present in
training, or added after it by their features.

    python examples/new_items.py --dataset tiktok --root data/tiktok \
        --modalities image audio
"""

import json
import sys
from os.path import expanduser
from statistics import mean, stdev

import torch

from command_line import (
    DATA,
    SPEED,
    check_output,
    load_data,
    make_config,
    make_parser,
    start,
)
from diffmm_geo.evaluation import evaluate, evaluate_cold
from diffmm_geo.training import DiffMMTrainer
from diffmm_geo.utils.atomic import atomic_path

OBSERVED = ('user', 'interacts', 'item')
SPLITS = ('val', 'test')


def parse_args():
    parser = make_parser(__doc__, *DATA, 'seeds', 'epochs', *SPEED)
    parser.add_argument('--k', type=int, default=20)
    parser.add_argument('--output', type=expanduser, default='new_items.json')
    return parser.parse_args()


def is_cold(data):
    cold = torch.ones(data['item'].num_nodes, dtype=torch.bool)
    cold[data[OBSERVED].edge_index[1]] = False
    return cold


def without_items(data, removed):
    r"""The graph without these items."""
    number = (~removed).cumsum(0) - 1
    out = data.subgraph({'item': ~removed})
    for split in SPLITS:
        name = f'{split}_edge_label_index'
        user, item = data[OBSERVED][name]
        left = ~removed[item]
        out[OBSERVED][name] = torch.stack([user[left], number[item[left]]])
    return out


def train(name, trainer):
    trainer.fit(progress=sys.stderr.isatty())
    best = trainer.best_val
    print(
        f'{name}: epoch {best["epoch"]} of {len(trainer.history)}, '
        f'validation {best["val"][trainer.metric]:.4f}',
        flush=True,
    )
    return trainer


def recall(data, user, item, k):
    observed = data[OBSERVED].edge_index
    held_out = data[OBSERVED].test_edge_label_index
    return {
        'all': evaluate(user, item, held_out, observed, k)[f'recall@{k}'],
        **{
            f'cold among {candidates}': evaluate_cold(
                user, item, held_out, observed, k, candidates
            )[f'recall@{k}']
            for candidates in ('all', 'cold')
        },
    }


@torch.no_grad()
def in_training(data, trainer, k):
    r"""Cold items were present in training, as negatives."""
    graphs, features = trainer.edge_index_dict, trainer.feature_dict
    cold = is_cold(data).nonzero().view(-1)
    models = {
        'DiffMM': trainer.model,
        'DiffMM, cold items without ID embedding': (
            trainer.model.without_item_emb(cold)
        ),
    }
    out = {}
    for name, model in models.items():
        emb = model.eval()(features, graphs)
        out[name] = recall(data, emb['user'], emb['item'], k)
    return out


@torch.no_grad()
def after_training(data, trainer, k):
    r"""Cold items were absent in training, and become the last items."""
    cold = is_cold(data)
    order = torch.cat([(~cold).nonzero(), cold.nonzero()]).view(-1)
    features = {
        m: data['item'][f'x_{m}'][order] for m in trainer.model.modalities
    }
    count = int(cold.sum())
    weight = trainer.model.item_emb.weight
    once = trainer.edge_index[1].bincount(minlength=len(weight)) == 1
    models = {
        'DiffMM, cold items added by their features': (
            trainer.model.with_new_items(count)
        ),
        'DiffMM, added with the mean ID embedding of items seen once': (
            trainer.model.with_new_items(
                count, weight[once].mean(0, keepdim=True).expand(count, -1)
            )
            if once.any()
            else None
        ),
    }
    out = {}
    for name, model in models.items():
        if model is not None:
            emb = model.eval()(features, trainer.edge_index_dict)
            item = emb['item'][order.argsort()]
            out[name] = recall(data, emb['user'], item, k)
    return out


def main():
    args = parse_args()
    check_output('output', args.output, is_file=True)
    data = load_data(args)
    cold = is_cold(data)
    for split in SPLITS:
        item = data[OBSERVED][f'{split}_edge_label_index'][1]
        print(
            f'{split}: {int(cold[item].sum())} of {item.numel()} interactions '
            f'are with {item[cold[item]].unique().numel()} of the '
            f'{int(cold.sum())} cold items'
        )
    if not cold[item].any():
        raise ValueError('no interaction with a cold item is in the test set')

    runs = []
    for seed in args.seeds:
        config = make_config(
            args,
            num_epochs=args.epochs,
            k=args.k,
            precision=args.precision,
            diffusion_form=args.diffusion_form,
            num_candidates=args.num_candidates,
            seed=seed,
        )
        trainer = DiffMMTrainer(data, config, args.modalities)
        trainer = train(f'DiffMM, seed {seed}', trainer)
        rows = in_training(data, trainer, args.k)
        trainer = DiffMMTrainer(
            without_items(data, cold), config, args.modalities
        )
        trainer = train(f'DiffMM without cold items, seed {seed}', trainer)
        runs.append({**rows, **after_training(data, trainer, args.k)})

    print(f'\nTest recall@{args.k}, epoch chosen by validation:')
    for name, values in runs[0].items():
        print(name)
        for protocol in values:
            x = [run[name][protocol] for run in runs]
            spread = stdev(x) if len(x) > 1 else 0.0
            print(f'  {protocol:16}{mean(x):.4f} ± {spread:.4f}')
    with atomic_path(args.output) as path, open(path, 'w') as file:
        json.dump({'seeds': args.seeds, 'runs': runs}, file, indent=2)
    print(f'All runs are in {args.output}')


if __name__ == '__main__':
    start(main)
