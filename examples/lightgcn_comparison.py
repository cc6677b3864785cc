r"""Compares DiffMM with the library's settings to PyG's LightGCN. Validation
chooses the number of layers and the regularization of LightGCN.

python examples/lightgcn_comparison.py --dataset movielens-100k
"""

import json
import sys
from itertools import product
from os.path import expanduser
from statistics import mean, stdev

from command_line import (
    DATA,
    check_output,
    load_data,
    make_config,
    make_parser,
    start,
)
from diffmm_geo.training import (
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
)
from diffmm_geo.utils.atomic import atomic_path

MODELS = ('LightGCN', 'DiffMM')
METRICS = ('recall@20', 'precision@20', 'ndcg@20')


def parse_args():
    parser = make_parser(__doc__, *DATA, 'seeds', 'epochs', 'device')
    parser.add_argument('--models', nargs='+', choices=MODELS, default=MODELS)
    parser.add_argument('--layers', nargs='+', type=int, default=[1, 2, 3])
    parser.add_argument(
        '--reg-weights', nargs='+', type=float, default=[1e-4, 1e-3, 1e-2]
    )
    parser.add_argument('--output', type=expanduser, default='comparison.json')
    return parser.parse_args()


def train(name, trainer):
    trainer.fit(progress=sys.stderr.isatty())
    best = trainer.best_val
    print(
        f'{name}: epoch {best["epoch"]} of {len(trainer.history)}, recall@20 '
        f'validation {best["val"]["recall@20"]:.4f}, '
        f'test {best["test"]["recall@20"]:.4f}',
        flush=True,
    )
    return best


def main():
    args = parse_args()
    check_output('output', args.output, is_file=True)
    data = load_data(args)
    limit = {} if args.epochs is None else {'num_epochs': args.epochs}

    def light_gcn(num_layers, reg_weight, seed):
        config = LightGCNConfig(
            num_layers=num_layers, reg_weight=reg_weight, seed=seed, **limit
        )
        name = f'LightGCN, {num_layers} layers, reg {reg_weight}, seed {seed}'
        return train(name, LightGCNTrainer(data, config, device=args.device))

    def diffmm(seed):
        config = make_config(args, seed=seed, **limit)
        trainer = DiffMMTrainer(
            data, config, args.modalities, device=args.device
        )
        return train(f'DiffMM, seed {seed}', trainer)

    runs = {}
    if 'LightGCN' in args.models:
        first, *others = args.seeds
        grid = {
            setting: light_gcn(*setting, first)
            for setting in product(args.layers, args.reg_weights)
        }
        chosen = max(grid, key=lambda s: grid[s]['val']['recall@20'])
        print(f'LightGCN: {chosen[0]} layers, reg {chosen[1]} by validation')
        runs['LightGCN'] = [
            grid[chosen],
            *(light_gcn(*chosen, seed) for seed in others),
        ]
    if 'DiffMM' in args.models:
        runs['DiffMM'] = [diffmm(seed) for seed in args.seeds]

    print(f'\nTest, epoch chosen by validation, seeds {args.seeds}:')
    for name, bests in runs.items():
        for metric in METRICS:
            values = [best['test'][metric] for best in bests]
            spread = stdev(values) if len(values) > 1 else 0.0
            print(f'{name:10}{metric:14}{mean(values):.4f} ± {spread:.4f}')
    with atomic_path(args.output) as path, open(path, 'w') as file:
        json.dump(runs, file, indent=2)
    print(f'All runs are in {args.output}')


if __name__ == '__main__':
    start(main)
