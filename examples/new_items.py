r"""Test Recall of cold items, which have no training interaction: present in
training, or added after it by their features.

    python examples/new_items.py --dataset tiktok --root data/tiktok \
        --modalities image audio
"""

import sys

import torch

from command_line import (
    DATA,
    SPEED,
    load_data,
    make_config,
    make_parser,
    start,
)
from diffmm_geo.evaluation import evaluate, evaluate_cold
from diffmm_geo.nn import DiffMM
from diffmm_geo.training import DiffMMTrainer

OBSERVED = ('user', 'interacts', 'item')
SPLITS = ('val', 'test')


def parse_args():
    parser = make_parser(__doc__, *DATA, 'seed', 'epochs', *SPEED)
    parser.add_argument('--k', type=int, default=20)
    return parser.parse_args()


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


def train(data, args):
    config = make_config(args)
    trainer = DiffMMTrainer(data, config, args.modalities)
    trainer.fit(progress=sys.stderr.isatty())
    return trainer


def with_new_items(model, item_emb):
    r"""A model with further items, which have these ID embeddings and are
    scored by their features. Graphs stay valid; append rows to the features.
    """
    config = {**model.config, 'num_items': model.num_items + len(item_emb)}
    state = model.state_dict()
    weight = state['item_emb.weight']
    state['item_emb.weight'] = torch.cat([weight, item_emb.to(weight)])
    larger = DiffMM(**config).to(weight)
    larger.load_state_dict(state)
    return larger


@torch.no_grad()
def show(name, data, k, model, features, graphs, order=slice(None)):
    user, item = model.eval()(features, graphs).values()
    given = user, item[order], data[OBSERVED].test_edge_label_index
    given = *given, data[OBSERVED].edge_index, k
    metrics = {
        'all items': evaluate(*given),
        'cold items': evaluate_cold(*given, 'all'),
        'cold items among themselves': evaluate_cold(*given, 'cold'),
    }
    values = (f'{key} {m[f"recall@{k}"]:.4f}' for key, m in metrics.items())
    print(f'{name}: {", ".join(values)}', flush=True)


def main():
    args = parse_args()
    data = load_data(args)
    cold = torch.ones(data['item'].num_nodes, dtype=torch.bool)
    cold[data[OBSERVED].edge_index[1]] = False
    num_cold = int(cold.sum())
    held_out = data[OBSERVED].test_edge_label_index[1]
    if not cold[held_out].any():
        raise ValueError('no interaction with a cold item is in the test set')
    print(
        f'{int(cold[held_out].sum())} of {held_out.numel()} test interactions '
        f'are with some of {num_cold} cold items. Test recall@{args.k}, epoch '
        'chosen by validation:'
    )

    # Cold items are negative items in training.
    trainer = train(data, args)
    model = trainer.model
    given = trainer.feature_dict, trainer.edge_index_dict
    show('In training', data, args.k, model, *given)
    with torch.no_grad():
        model.item_emb.weight[cold] = 0.0
    show('The same without their ID embeddings', data, args.k, model, *given)

    # Cold items are absent in training, and become the last items.
    trainer = train(without_items(data, cold), args)
    model = trainer.model
    order = torch.cat([(~cold).nonzero(), cold.nonzero()]).view(-1)
    features = {m: data['item'][f'x_{m}'][order] for m in model.modalities}
    given = features, trainer.edge_index_dict, order.argsort()
    weight = model.item_emb.weight.detach()
    larger = with_new_items(model, weight.new_zeros(num_cold, weight.size(1)))
    show('Added by their features', data, args.k, larger, *given)
    once = trainer.edge_index[1].bincount(minlength=model.num_items) == 1
    if once.any():
        mean = weight[once].mean(0).expand(num_cold, -1)
        larger = with_new_items(model, mean)
        name = 'Added with the mean ID embedding of items seen once'
        show(name, data, args.k, larger, *given)


if __name__ == '__main__':
    start(main)
