r"""DiffMM and PyG's LightGCN on MovieLens-100K, under the same protocol.

python examples/demo.py --root data --output runs/demo
"""

import argparse
import sys
from os.path import expanduser
from pathlib import Path

from command_line import check_output, need, start
from diffmm_geo.datasets import MovieLens100K
from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
)
from run_files import save_run

METRICS = ('recall@20', 'precision@20', 'ndcg@20')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--root', type=expanduser, default='data')
    parser.add_argument('--output', type=expanduser, default='runs/demo')
    parser.add_argument('--epochs', type=int, default=60, help='at most')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def show(record):
    if record['epoch'] % 5 == 0:
        print(
            f'  epoch {record["epoch"]:3d}: validation recall@20 '
            f'{record["val"]["recall@20"]:.4f}',
            flush=True,
        )


def print_table(trainers):
    print(f'\n{"":10}', *(f'{metric:>13}' for metric in METRICS), '   epoch')
    for name, trainer in trainers.items():
        best = trainer.best_val
        values = (f'{best["test"][metric]:13.4f}' for metric in METRICS)
        print(f'{name:10}', *values, f'{best["epoch"]:8d}')
    print('Test metrics of the epoch chosen by validation recall@20.')


def print_recommendations(trainer, data, users=(0, 1), k=10):
    items = trainer.model.recommend(
        trainer.feature_dict,
        trainer.edge_index_dict,
        k,
        exclude_edge_index=trainer.edge_index,
    )
    observed = data['user', 'interacts', 'item'].edge_index
    for user in users:
        seen = observed[1, observed[0] == user]
        print(f'\nUser {user} rated {seen.numel()} movies, among them:')
        for item in seen[:3].tolist():
            print(f'      {data.item_title[item]}')
        print('  DiffMM recommends:')
        for rank, item in enumerate(items[user].tolist(), start=1):
            print(f'  {rank:2d}. {data.item_title[item]}')


def main():
    args = parse_args()
    need('matplotlib')
    check_output('output', args.output)
    dataset = MovieLens100K(
        Path(args.root) / 'movielens-100k', modalities=('text', 'genre')
    )
    data = dataset[0]
    print(data)

    # A few minutes on two cores.
    settings = {
        'num_epochs': args.epochs,
        'patience': 10,
        'lr': 5e-3,
        'seed': args.seed,
    }
    trainers = {
        'LightGCN': LightGCNTrainer(data, LightGCNConfig(**settings)),
        'DiffMM': DiffMMTrainer(data, DiffMMConfig(**settings)),
    }
    for name, trainer in trainers.items():
        print(f'\nTraining {name}')
        trainer.fit(progress=sys.stderr.isatty(), callback=show)
        save_run(trainer, Path(args.output) / name.lower())

    print_recommendations(trainers['DiffMM'], data)
    print_table(trainers)
    for name in trainers:
        folder = Path(args.output) / name.lower()
        print(f'{name}: {folder}/metrics.json, curves.png, model.pt')


if __name__ == '__main__':
    start(main)
