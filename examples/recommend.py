r"""Recommends items with a trained model.

python examples/diffmm.py --dataset movielens-100k --preset paper
python examples/recommend.py --dataset movielens-100k --users 0 1
python examples/recommend.py --export shop.npz  # embeddings to serve
"""

from os.path import expanduser

import torch

from command_line import check_output, make_parser, start
from diffmm_geo.datasets import load_dataset
from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender


def parse_args():
    parser = make_parser(__doc__, 'dataset', 'root', 'reload')
    parser.add_argument(
        '--model',
        type=expanduser,
        help="folder of 'save_pretrained' (default: runs/DATASET/model)",
    )
    parser.add_argument('--users', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument(
        '--export',
        type=expanduser,
        help='.npz file to write embeddings to',
    )
    return parser.parse_args()


@torch.no_grad()
def main():
    args = parse_args()
    if args.export:
        check_output('export', args.export, is_file=True)
    folder = args.model or f'runs/{args.dataset}/model'
    model = DiffMM.from_pretrained(folder)
    graphs = model.load_graphs(folder)
    data = load_dataset(
        args.dataset,
        args.root or f'data/{args.dataset}',
        model.modalities,
        args.reload,
    )
    features = {m: data['item'][f'x_{m}'] for m in model.modalities}

    user, _, item = model.edge_type
    emb = model(features, graphs)
    observed = graphs[model.edge_type]
    recommender = Recommender(
        emb[user],
        emb[item],
        observed,
        raw_user_id=data[user].get('raw_id'),
        raw_item_id=data[item].get('raw_id'),
    )
    if args.export:
        recommender.save(args.export)

    top = recommender.recommend(torch.tensor(args.users), args.k)
    titles = data.item_title if 'item_title' in data else range(model.num_items)
    for n, items in zip(args.users, top.tolist()):
        count = int((observed[0] == n).sum())
        print(f'User {n}, who has interacted with {count} items:')
        # -1 marks places without an item.
        for rank, i in enumerate((i for i in items if i >= 0), start=1):
            print(f'  {rank:2d}. {titles[i]}')


if __name__ == '__main__':
    start(main)
