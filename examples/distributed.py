r"""Trains DiffMM in several processes, with the same losses as in one.

    python examples/distributed.py --dataset movielens-100k
    torchrun --nproc-per-node 2 examples/distributed.py \
        --dataset tiktok --root data/tiktok --modalities image audio
    torchrun --nproc-per-node 4 examples/distributed.py --device cuda \
        --checkpoint-dir runs/last --resume

With --resume, a run that lost a process continues in any number of processes.
"""

import os
import sys

import torch

from command_line import (
    DATA,
    check_output,
    load_data,
    make_config,
    make_parser,
    need,
)
from diffmm_geo.training import save_run
from diffmm_geo.training.distributed import (
    DistributedDiffMMTrainer,
    LostRankError,
    joined_ranks,
)
from diffmm_geo.training.distributed.joined_ranks import DEVICES


def parse_args():
    parser = make_parser(
        __doc__, *DATA, 'epochs', 'seed', 'checkpoint-dir', 'resume', 'output'
    )
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
    need('matplotlib')
    args.output = args.output or f'runs/{args.dataset}'
    check_output('output', args.output)
    if args.checkpoint_dir:
        check_output('checkpoint-dir', args.checkpoint_dir)
    # Each process loads the data before it waits for others, as a download may
    # take longer than the timeout.
    data = load_data(args)
    config = make_config(args, seed=args.seed, num_epochs=args.epochs)
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
    save_run(trainer, args.output)
    if ranks.is_first:
        best = trainer.best_val
        split = 'test' if 'test' in best else 'val'
        print(
            f'Chosen by validation (epoch {best["epoch"]}): '
            f'{split} recall@20 {best[split]["recall@20"]:.4f}; '
            f'see {args.output}'
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
