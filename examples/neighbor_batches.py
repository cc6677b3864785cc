r"""Trains the layer and the loss on sampled neighbors, with PyG's own
LinkNeighborLoader: a step costs the same on a graph of any size.

    python examples/neighbor_batches.py --epochs 1

The loader needs torch-sparse or pyg-lib.
"""

import torch
import torch.nn.functional as F
from torch.nn import Embedding, Linear, ModuleDict
from torch_geometric import seed_everything
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.nn.models.lightgcn import BPRLoss
from torch_geometric.transforms import ToUndirected

from command_line import DATA, load_data, make_parser, start
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import (
    BipartiteLGConv,
    CrossModalContrastiveLoss,
    ModalityDiffusion,
    MultiModalLightGCNConv,
)
from diffmm_geo.transforms import ModalityAwareGraphDiffusion

OBSERVED = ('user', 'interacts', 'item')


class MultiModalRecommender(torch.nn.Module):
    def __init__(self, data, modalities, dim=64):
        super().__init__()
        self.emb = ModuleDict(
            {t: Embedding(data[t].num_nodes, dim) for t in ('user', 'item')}
        )
        self.lins = ModuleDict(
            {m: Linear(data['item'][f'x_{m}'].size(1), dim) for m in modalities}
        )
        self.conv = MultiModalLightGCNConv(modalities)
        self.view = BipartiteLGConv()
        for emb in self.emb.values():
            torch.nn.init.xavier_uniform_(emb.weight)

    def forward(self, data):
        r"""The embeddings of the nodes of a graph, or of a batch, and their
        views of each modality.
        """
        edge_index_dict = data.edge_index_dict
        emb = {t: emb(data[t].n_id) for t, emb in self.emb.items()}
        modality = {
            m: lin(data['item'][f'x_{m}']) for m, lin in self.lins.items()
        }
        out = self.conv(emb, edge_index_dict, modality)
        views = {}
        for m, x in modality.items():
            denoised = edge_index_dict['user', f'denoised_{m}', 'item']
            views[m] = self.view((emb['user'], F.normalize(x)), denoised)
        return out, views


def main():
    args = make_parser(__doc__, *DATA, 'epochs', 'seed').parse_args()
    num_epochs = args.epochs or 10
    data = load_data(args)
    seed_everything(args.seed)

    modalities = [k[2:] for k in data['item'].keys() if k.startswith('x_')]
    diffusion = ModalityDiffusion(data['item'].num_nodes, modalities)
    data = ModalityAwareGraphDiffusion(diffusion).fit(data)(data)
    for store in data.node_stores:
        store.n_id = torch.arange(store.num_nodes)

    # Neighbors are sampled against the direction of edges: those of users along
    # the reverse edges. A bidirectional batch holds each sampled edge in both
    # directions, so that the edge types that the layer reads have all of them.
    store = data[OBSERVED]
    loader = LinkNeighborLoader(
        ToUndirected()(data),
        num_neighbors=[20, 10],
        edge_label_index=(OBSERVED, store.edge_index),
        neg_sampling='triplet',
        subgraph_type='bidirectional',
        batch_size=2048,
        shuffle=True,
    )
    model = MultiModalRecommender(data, modalities)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    contrast, bpr = CrossModalContrastiveLoss(anchor='main'), BPRLoss()

    for epoch in range(1, num_epochs + 1):
        for batch in loader:
            user, item = batch['user'], batch['item']
            out, views = model(batch)
            anchor = out['user'][user.src_index]
            loss = bpr(
                (anchor * out['item'][item.dst_pos_index]).sum(dim=-1),
                (anchor * out['item'][item.dst_neg_index]).sum(dim=-1),
            )
            index = {'user': user.src_index, 'item': item.dst_pos_index}
            for n, t in enumerate(index):
                view = {m: pair[n] for m, pair in views.items()}
                loss = loss + 1e-2 * contrast(view, index[t], out[t])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        with torch.no_grad():
            out, _ = model(data)
        held_out, observed = store.val_edge_label_index, store.edge_index
        val = evaluate(out['user'], out['item'], held_out, observed)
        print(
            f'Epoch {epoch:3d}: loss {loss:.4f}, '
            f'val recall@20 {val["recall@20"]:.4f}'
        )


if __name__ == '__main__':
    start(main)
