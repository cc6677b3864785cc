r"""Trains DiffMM with the settings of the paper, or an ensemble of the
library's recommenders, which is better.

    python examples/diffmm.py --dataset movielens-100k --preset best
    python examples/diffmm.py --dataset movielens-100k --preset paper
    python examples/diffmm.py --dataset tiktok --root data/tiktok \
        --modalities image audio --seed 0 --output runs/tiktok
    python examples/diffmm.py --checkpoint-dir runs/last --resume
    python examples/diffmm.py --precision bf16 --diffusion-form sampled \
        --num-candidates 2048  # the fastest
"""

import sys
from functools import partial
from pathlib import Path

from command_line import (
    DATA,
    SPEED,
    check_output,
    load_data,
    make_config,
    make_parser,
    need,
    start,
)
from diffmm_geo.evaluation import evaluate
from diffmm_geo.training import RECIPES, DiffMMTrainer, Trainer
from diffmm_geo.utils.checks import check_device
from ensemble.denoiser import train_denoiser
from ensemble.run_files import write_run
from ensemble.train import (
    OBSERVED,
    embedding_scorer,
    train_ensemble,
    untrained_members,
)
from item_graph_gcn import ItemGraphConfig, ItemGraphTask
from run_files import save_run

# What only the training of DiffMM has.
PAPER_OPTIONS = (
    'precision',
    'diffusion_form',
    'num_candidates',
    'checkpoint_dir',
    'resume',
)


def parse_args():
    parser = make_parser(
        __doc__,
        *(*DATA, 'epochs', 'seed', 'device', *SPEED),
        *('checkpoint-dir', 'resume', 'output'),
    )
    parser.add_argument(
        '--preset',
        choices=['best', 'paper'],
        help='best: an ensemble, whose weights validation chooses; paper: '
        'DiffMM, with the recipe of its authors if there is one (default: '
        'paper with a recipe or an option of DiffMM, best otherwise)',
    )
    args = parser.parse_args()
    given = [name for name in PAPER_OPTIONS if getattr(args, name)]
    if args.preset is None:
        is_paper = given or args.dataset in RECIPES
        args.preset = 'paper' if is_paper else 'best'
    elif args.preset == 'best' and given:
        parser.error(f"'--preset best' has no {', '.join(given)}")
    return args


def show(record):
    metrics = ', '.join(
        f'{split} recall@20 {record[split]["recall@20"]:.4f}'
        for split in ('val', 'test')
        if split in record
    )
    generated = ''.join(
        f'; {m} edges recall {values["recall"]:.4f}, '
        f'{values["observed"]:.0%} observed, '
        f'{values["distinct_items"]:.0f} items'
        for m, values in record.get('generated', {}).items()
    )
    seconds = sum(record['seconds'].values())
    print(f'Epoch {record["epoch"]:3d}: {metrics}{generated} ({seconds:.1f} s)')


def show_member(record):
    print(
        f'{record["name"]:18s} val recall@20 {record["val"]["recall@20"]:.4f} '
        f'({record["seconds"]:.1f} s)'
    )


def train_members(args, data):
    data = data.to(check_device(args.device))
    settings = {'seed': args.seed}
    if args.epochs is not None:
        settings['num_epochs'] = args.epochs
    config, embeddings = ItemGraphConfig(**settings), {}
    store = data[OBSERVED]
    observed, held_out = store.edge_index, store.val_edge_label_index

    def denoiser(feature=None):
        size = data['user'].num_nodes, data['item'].num_nodes
        return train_denoiser(
            *(observed, held_out, *size), feature=feature, **settings
        )

    def graph():
        trainer = Trainer(
            ItemGraphTask(data, config, args.modalities, args.device)
        )
        trainer.fit(sys.stderr.isatty())
        return trainer.embeddings()

    def make(name, train):
        embeddings[name] = train()
        return embedding_scorer(embeddings[name])

    denoisers = {'denoiser': denoiser}
    for key, x in data['item'].items():
        if key.startswith('x_'):
            denoisers[f'denoiser:{key[2:]}'] = partial(denoiser, x)
    members = {
        **untrained_members(data),
        **{name: partial(make, name, f) for name, f in denoisers.items()},
        'graph': partial(make, 'graph', graph),
    }
    ensemble = train_ensemble(members, data, report=show_member)
    weights = [f'{name} {w:.3g}' for name, w in ensemble.weights.items()]
    print(f'Weights: {", ".join(weights)}')
    splits = ('val', 'test') if 'test_edge_label_index' in store else ('val',)
    metrics = {
        split: evaluate(
            ensemble.scorer, store[f'{split}_edge_label_index'], observed
        )
        for split in splits
    }
    write_run(ensemble, metrics, embeddings, settings, args.output)
    print(f'Chosen by validation: {splits[-1]} {values(metrics[splits[-1]])}')
    print(f'metrics.json and model.pt are in {args.output}')


def values(metrics):
    names = ('recall@20', 'precision@20', 'ndcg@20')
    return ', '.join(f'{name} {metrics[name]:.4f}' for name in names)


def main():
    args = parse_args()
    need('matplotlib', 'safetensors')
    args.output = args.output or f'runs/{args.dataset}'
    check_output('output', args.output)
    if args.checkpoint_dir:
        check_output('checkpoint-dir', args.checkpoint_dir)
    data = load_data(args)
    if args.preset == 'best':
        train_members(args, data)
    else:
        train_diffmm(args, data)


def train_diffmm(args, data):
    config = make_config(args)
    trainer = DiffMMTrainer(data, config, args.modalities, device=args.device)
    try:
        trainer.fit(sys.stderr.isatty(), show, args.checkpoint_dir, args.resume)
    except KeyboardInterrupt:
        print(f'Interrupted after {len(trainer.history)} epochs.')
    if not trainer.history:
        sys.exit(130)

    save_run(trainer, args.output)
    trainer.model.save_pretrained(
        Path(args.output) / 'model', trainer.edge_index_dict
    )
    bests = {('Chosen by validation', 'val'): trainer.best_val}
    if 'test' in trainer.task.edge_label_index:
        bests = {
            ('Chosen by validation', 'test'): trainer.best_val,
            ('Best test epoch', 'test'): trainer.best_test,
        }
    for (name, split), best in bests.items():
        print(f'{name} (epoch {best["epoch"]}): {split} {values(best[split])}')
    print(f'metrics.json, curves.png, model.pt and model/ are in {args.output}')


if __name__ == '__main__':
    start(main)
