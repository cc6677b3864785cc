r"""Trains DiffMM, with the recipe of the paper's authors if there is one.

    python examples/diffmm.py --dataset movielens-100k
    python examples/diffmm.py --dataset tiktok --root data/tiktok \
        --modalities image audio --seed 0 --output runs/tiktok
    python examples/diffmm.py --checkpoint-dir runs/last --resume
    python examples/diffmm.py --precision bf16 --diffusion-form sampled \
        --num-candidates 2048  # the fastest
    python examples/diffmm.py --batching neighbor --num-neighbors 20 10 5
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from command_line import (
    DATA,
    SPEED,
    load_data,
    make_config,
    make_parser,
    need,
    start,
)
from diffmm_geo.training import (
    BATCHINGS,
    CSVLogger,
    DiffMMTrainer,
    TensorBoardLogger,
    save_run,
)
from diffmm_geo.utils.extras import check_package

# Loggers, and their files in the folder of results.
LOGGERS = {
    'csv': (CSVLogger, 'history.csv'),
    'tensorboard': (TensorBoardLogger, 'tensorboard'),
}


def parse_args():
    parser = make_parser(
        __doc__,
        *(*DATA, 'epochs', 'seed', 'device', *SPEED),
        *('checkpoint-dir', 'resume', 'output'),
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
        '--log',
        nargs='+',
        choices=LOGGERS,
        default=[],
        help='log each epoch to OUTPUT/history.csv, OUTPUT/tensorboard',
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
    need('matplotlib', 'safetensors')
    if 'tensorboard' in args.log:
        check_package('tensorboard', 'tensorboard', '--log tensorboard')
    data = load_data(args)
    config = make_config(
        args,
        seed=args.seed,
        num_epochs=args.epochs,
        precision=args.precision,
        diffusion_form=args.diffusion_form,
        num_candidates=args.num_candidates,
        batching=args.batching,
        num_neighbors=args.num_neighbors,
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
    bests = {('Chosen by validation', 'val'): trainer.best_val}
    if 'test' in trainer.edge_label_index:
        bests = {
            ('Chosen by validation', 'test'): trainer.best_val,
            ('Best test epoch', 'test'): trainer.best_test,
        }
    for (name, split), best in bests.items():
        values = ', '.join(
            f'{metric} {best[split][metric]:.4f}'
            for metric in ('recall@20', 'precision@20', 'ndcg@20')
        )
        print(f'{name} (epoch {best["epoch"]}): {split} {values}')
    print(f'metrics.json, curves.png, model.pt and model/ are in {output}')


if __name__ == '__main__':
    start(main)
