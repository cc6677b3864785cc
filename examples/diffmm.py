r"""Trains DiffMM, with the recipe of the paper's authors if there is one.

    python examples/diffmm.py --dataset movielens-100k
    python examples/diffmm.py --dataset tiktok --root data/tiktok \
        --modalities image audio --seed 0 --output runs/tiktok
    python examples/diffmm.py --checkpoint-dir runs/last --resume
    python examples/diffmm.py --precision bf16 --diffusion-form sampled \
        --num-candidates 2048  # the fastest
    python examples/diffmm.py --batching neighbor --num-neighbors 20 10 5
"""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from diffmm_geo.datasets import DATASETS, load_dataset
from diffmm_geo.nn.diffusion import FORMS
from diffmm_geo.training import (
    BATCHINGS,
    PRECISIONS,
    RECIPES,
    CSVLogger,
    DiffMMTrainer,
    TensorBoardLogger,
    save_run,
)

# Loggers, and their files in the folder of results.
LOGGERS = {
    'csv': (CSVLogger, 'history.csv'),
    'tensorboard': (TensorBoardLogger, 'tensorboard'),
}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--dataset',
        default='movielens-100k',
        help=f'one of {", ".join(DATASETS)}, or the NAME of NAME.inter in '
        "MMRec's format under ROOT/raw (default: %(default)s)",
    )
    parser.add_argument(
        '--root', help='folder of the data set (default: data/DATASET)'
    )
    parser.add_argument(
        '--modalities',
        nargs='+',
        help='default: all modalities of the data set',
    )
    parser.add_argument(
        '--epochs', type=int, help='upper limit (default: recipe)'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        help='dtype of large products (default: recipe)',
    )
    parser.add_argument(
        '--diffusion-form',
        choices=FORMS,
        help='training of denoisers; sampled is the fastest (default: recipe)',
    )
    parser.add_argument(
        '--num-candidates',
        type=int,
        help='candidates of the contrastive loss per step (default: all nodes)',
    )
    parser.add_argument(
        '--batching',
        choices=BATCHINGS,
        help='propagate over the full graphs, or over the subgraph sampled '
        'around a batch (default: recipe)',
    )
    parser.add_argument(
        '--num-neighbors',
        type=int,
        nargs='+',
        help='number of edges to sample per node and graph, by hop; -1 for '
        'all (default: recipe)',
    )
    parser.add_argument(
        '--checkpoint-dir', help='folder for a checkpoint of each epoch'
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='resume from the checkpoint, if any',
    )
    parser.add_argument(
        '--log',
        nargs='+',
        choices=LOGGERS,
        default=[],
        help='log each epoch to OUTPUT/history.csv, OUTPUT/tensorboard',
    )
    parser.add_argument(
        '--output', help='folder for results (default: runs/DATASET)'
    )
    return parser.parse_args()


def show(record):
    metrics = ', '.join(
        f'{split} recall@20 {record[split]["recall@20"]:.4f}'
        for split in ('val', 'test')
        if split in record
    )
    seconds = sum(record['seconds'].values())
    print(f'Epoch {record["epoch"]:3d}: {metrics} ({seconds:.1f} s)')


def main():
    args = parse_args()
    data = load_dataset(
        args.dataset, args.root or f'data/{args.dataset}', args.modalities
    )
    config = RECIPES.get(args.dataset, RECIPES['default'])
    changes = {
        'seed': args.seed,
        'num_epochs': args.epochs,
        'precision': args.precision,
        'diffusion_form': args.diffusion_form,
        'num_candidates': args.num_candidates,
        'batching': args.batching,
        'num_neighbors': args.num_neighbors,
    }
    config = replace(
        config, **{k: v for k, v in changes.items() if v is not None}
    )

    output = args.output or f'runs/{args.dataset}'
    trainer = DiffMMTrainer(data, config, args.modalities, device=args.device)
    try:
        with ExitStack() as stack:
            callbacks = [show]
            for logger, name in map(LOGGERS.get, args.log):
                callbacks.append(
                    stack.enter_context(logger(Path(output, name)))
                )
            trainer.fit(
                sys.stderr.isatty(), callbacks, args.checkpoint_dir, args.resume
            )
    except KeyboardInterrupt:
        print(f'Interrupted after {len(trainer.history)} epochs.')
    if not trainer.history:
        sys.exit(130)

    save_run(trainer, output)
    trainer.model.save_pretrained(
        Path(output) / 'model', trainer.edge_index_dict
    )
    for name, best in (
        ('Chosen by validation', trainer.best_val),
        ('Best test epoch', trainer.best_test),
    ):
        values = ', '.join(
            f'{metric} {best["test"][metric]:.4f}'
            for metric in ('recall@20', 'precision@20', 'ndcg@20')
        )
        print(f'{name} (epoch {best["epoch"]}): test {values}')
    print(f'metrics.json, curves.png, model.pt and model/ are in {output}')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        sys.exit(f'error: {error}')
