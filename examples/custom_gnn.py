r"""The layer, the loss and the transform inside another model: a recommender of
SAGEConv layers becomes multi-modal.

    python examples/custom_gnn.py
"""

import argparse
from os.path import expanduser

import torch
import torch.nn.functional as F
from torch.nn import Embedding, Linear, ModuleDict
from torch_geometric import seed_everything
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.models.lightgcn import BPRLoss

from diffmm_geo.datasets import MovieLens100K
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import (
    BipartiteLGConv,
    CrossModalContrastiveLoss,
    ModalityDiffusion,
    MultiModalLightGCNConv,
)
from diffmm_geo.training import NegativeSampler
from diffmm_geo.transforms import ModalityAwareGraphDiffusion

OBSERVED = ('user', 'interacts', 'item')


class MultiModalSAGE(torch.nn.Module):
    def __init__(self, num_users, num_items, modality_channels, dim=64):
        super().__init__()
        self.user_emb = Embedding(num_users, dim)
        self.item_emb = Embedding(num_items, dim)
        self.lins = ModuleDict(
            {m: Linear(c, dim) for m, c in modality_channels.items()}
        )
        self.multi_modal = MultiModalLightGCNConv(list(modality_channels))
        self.to_user = SAGEConv(dim, dim)
        self.to_item = SAGEConv(dim, dim)
        self.view = BipartiteLGConv()
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)

    def forward(self, x_dict, edge_index_dict):
        emb = {'user': self.user_emb.weight, 'item': self.item_emb.weight}
        modality = {m: lin(x_dict[m]) for m, lin in self.lins.items()}
        h = self.multi_modal(emb, edge_index_dict, modality)

        edge_index = edge_index_dict[OBSERVED]
        user = self.to_user((h['item'], h['user']), edge_index.flip(0))
        item = self.to_item((h['user'], h['item']), edge_index)
        out = {'user': h['user'] + user, 'item': h['item'] + item}

        views = {
            m: self.view(
                (emb['user'], F.normalize(x)),
                edge_index_dict['user', f'denoised_{m}', 'item'],
            )
            for m, x in modality.items()
        }
        return out, views


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--root', type=expanduser, default='data/movielens-100k'
    )
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    modalities = ['text', 'genre']
    data = MovieLens100K(args.root, modalities)[0]
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes

    seed_everything(args.seed)
    diffusion = ModalityDiffusion(num_items, modalities)
    transform = ModalityAwareGraphDiffusion(diffusion)
    data = transform.fit(data, progress=True)(data)

    store = data[OBSERVED]
    x_dict = {m: data['item'][f'x_{m}'] for m in modalities}
    model = MultiModalSAGE(
        num_users, num_items, {m: x.size(1) for m, x in x_dict.items()}
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    sampler = NegativeSampler(store.edge_index, num_users, num_items)
    held_outs = store.val_edge_label_index, store.test_edge_label_index
    contrast, bpr = CrossModalContrastiveLoss(anchor='main'), BPRLoss()

    for epoch in range(1, args.epochs + 1):
        for batch in torch.randperm(store.edge_index.size(1)).split(4096):
            user, positive = store.edge_index[:, batch]
            negative = sampler.sample(user)
            out, views = model(x_dict, data.edge_index_dict)
            anchor = out['user'][user]
            loss = bpr(
                (anchor * out['item'][positive]).sum(dim=-1),
                (anchor * out['item'][negative]).sum(dim=-1),
            )
            for n, node in enumerate(out):
                index = (user, positive)[n]
                view = {m: view[n] for m, view in views.items()}
                loss = loss + 1e-2 * contrast(view, index, out[node])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        with torch.no_grad():
            out, _ = model(x_dict, data.edge_index_dict)
        val, test = (
            evaluate(out['user'], out['item'], held_out, store.edge_index)
            for held_out in held_outs
        )
        print(
            f'Epoch {epoch:3d}: loss {loss:.4f}, '
            f'val recall@20 {val["recall@20"]:.4f}, '
            f'test recall@20 {test["recall@20"]:.4f}'
        )


if __name__ == '__main__':
    main()
