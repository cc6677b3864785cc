r"""Trains DiffMM in several processes, with the same losses as in one.

    python examples/distributed.py --dataset movielens-100k
    torchrun --nproc-per-node 2 examples/distributed.py \
        --dataset tiktok --root data/tiktok --modalities image audio
    torchrun --nproc-per-node 4 examples/distributed.py --device cuda \
        --checkpoint-dir runs/last --resume

With --resume, a run that lost a process continues in any number of processes.
"""

import argparse
import os
import sys
from dataclasses import replace

import torch

from diffmm_geo.datasets import DATASETS, load_dataset
from diffmm_geo.training import RECIPES, save_run
from diffmm_geo.training.distributed import (
    DistributedDiffMMTrainer,
    LostRankError,
    joined_ranks,
)
from diffmm_geo.training.distributed.joined_ranks import DEVICES


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
    parser.add_argument(
        '--device',
        choices=DEVICES,
        default='cpu',
        help='cpu, or one GPU per process (default: %(default)s)',
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=30.0,
        help='seconds to wait for another process (default: %(default)s)',
    )
    parser.add_argument(
        '--shard-parameters',
        action='store_true',
        help="split the model's weights and Adam's moments among processes "
        '(FSDP2)',
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
        '--output', help='folder for results (default: runs/DATASET)'
    )
    return parser.parse_args()


def show(record):
    recall = record['val']['recall@20']
    seconds = ', '.join(f'{k} {v:.2f} s' for k, v in record['seconds'].items())
    print(
        f'Epoch {record["epoch"]:3d}: val recall@20 {recall:.4f} ({seconds})',
        flush=True,
    )


def main():
    args = parse_args()
    # Each process loads the data before it waits for others, as a download may
    # take longer than the timeout.
    data = load_dataset(
        args.dataset, args.root or f'data/{args.dataset}', args.modalities
    )
    config = RECIPES.get(args.dataset, RECIPES['default'])
    config = replace(
        config, seed=args.seed, num_epochs=args.epochs or config.num_epochs
    )
    with joined_ranks(args.device, args.timeout) as ranks:
        train(data, config, ranks, args)


def train(data, config, ranks, args):
    if ranks.is_first:
        print(
            f'{ranks.size} processes on {args.device}, '
            f'{torch.get_num_threads()} threads each'
        )
    trainer = DistributedDiffMMTrainer(
        data,
        config,
        args.modalities,
        ranks=ranks,
        shard_parameters=args.shard_parameters,
    )
    trainer.fit(sys.stderr.isatty(), show, args.checkpoint_dir, args.resume)
    output = args.output or f'runs/{args.dataset}'
    save_run(trainer, output)
    if ranks.is_first:
        best = trainer.best_val
        print(
            f'Chosen by validation (epoch {best["epoch"]}): '
            f'test recall@20 {best["test"]["recall@20"]:.4f}; '
            f'see {output}'
        )


if __name__ == '__main__':
    try:
        main()
    except LostRankError as error:
        sys.exit(f'error: {error}')
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        # The same in all processes.
        first = os.environ.get('RANK', '0') == '0'
        sys.exit(f'error: {error}' if first else 1)
