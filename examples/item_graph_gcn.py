r"""A model of one's own from the parts of the library: a LightGCN that also
passes ID embeddings between similar items.

    python examples/item_graph_gcn.py --epochs 5

`ItemKNNGraph` makes the graphs of similar items, `BipartiteLGConv` propagates,
`info_nce` contrasts, and a `Task` lets `Trainer` train: it samples, evaluates,
chooses the epoch, and resumes.
"""

import argparse
from dataclasses import dataclass
from os.path import expanduser

import torch
import torch.nn.functional as F
from torch.nn import Embedding, Linear, ModuleList

from diffmm_geo.datasets import MovieLens100K
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import BipartiteLGConv, info_nce
from diffmm_geo.tasks import Task
from diffmm_geo.training import Trainer, TrainingConfig
from diffmm_geo.transforms import ItemKNNGraph
from diffmm_geo.utils.features import modality_features, standardize

OBSERVED = ('user', 'interacts', 'item')


class ItemGraphGCN(torch.nn.Module):
    r"""Adds two views of users and items. The first is the `LightGCN
    <https://arxiv.org/abs/2002.02126>`_

    .. math::
        \mathbf{Z} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{\hat{A}}^l \,
        [\mathbf{E}_u; \mathbf{E}_i].

    The second gates the ID embeddings of items by the features of each
    modality, as in `MGCN <https://arxiv.org/abs/2308.03588>`_, passes them
    between similar items, and sends them to users

    .. math::
        \mathbf{H}_i = \frac{1}{M} \sum_{m=1}^{M} \mathbf{\hat{S}}_m \left(
        \mathbf{E}_i \odot \sigma(\mathbf{F}_m \mathbf{W}_m + \mathbf{b}_m)
        \right), \qquad \mathbf{H}_u = \mathbf{\hat{R}} \, \mathbf{H}_i.

    So items without interactions receive the ID embeddings of similar ones.
    """

    def __init__(self, num_users, num_items, channels, dim=64, num_layers=4):
        super().__init__()
        self.num_layers = num_layers
        self.user_emb = Embedding(num_users, dim)
        self.item_emb = Embedding(num_items, dim)
        self.projections = ModuleList(Linear(c, dim) for c in channels)
        self.gates = ModuleList(Linear(dim, dim) for _ in channels)
        self.conv = BipartiteLGConv(add_self_loops=False)
        self.reset_parameters()

    def reset_parameters(self):
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)
        for lin in (*self.projections, *self.gates):
            lin.reset_parameters()

    def adjacency_list(self, edge_index, similar):
        r"""Normalizes the interactions and the graphs of similar items, and
        sorts them once for all steps.
        """
        num_users = self.user_emb.num_embeddings
        num_items = self.item_emb.num_embeddings
        graphs = [(edge_index, (num_users, num_items))]
        graphs += [(x, (num_items, num_items)) for x in similar]
        return [
            self.conv.adjacency(x, size, prepare=True) for x, size in graphs
        ]

    def forward(self, features, adjacency_list):
        r"""The two views of users and of items."""
        observed, *similar = adjacency_list
        user, item = self.user_emb.weight, self.item_emb.weight
        z = [
            x / (self.num_layers + 1)
            for x in self.conv.power_sum(observed, user, item, self.num_layers)
        ]
        h_item = torch.zeros_like(item)
        for x, adj, lin, gate in zip(
            features, similar, self.projections, self.gates
        ):
            gated = item * gate(lin(x)).sigmoid()
            h_item = h_item + self.conv.to_item(adj, gated, item)
        h_item = h_item / len(features)
        return z, [self.conv.to_user(observed, user, h_item), h_item]


@dataclass(frozen=True, kw_only=True)
class ItemGraphConfig(TrainingConfig):
    r"""Changes some defaults of all models, and adds settings."""

    batch_size: int = 2048
    lr: float = 2e-3
    reg_weight: float = 1e-4
    # Interactions are drawn in proportion to their user's number of these to
    # the power of the negative exponent, so that heavy users count less.
    user_exponent: float = 0.5
    embedding_dim: int = 64
    num_layers: int = 4
    num_neighbors: int = 20
    ssl_weight: float = 1e-2
    temperature: float = 0.2
    num_candidates: int | None = 512
    num_negatives: int = 512


class ItemGraphTask(Task):
    r"""The model, its data and its objective

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{softmax}} + \lambda_1 \left(
        \mathrm{InfoNCE}(\mathbf{Z}_u, \mathbf{H}_u) +
        \mathrm{InfoNCE}(\mathbf{Z}_i, \mathbf{H}_i) \right) +
        \frac{\lambda_2}{B} {\| \mathbf{Z}_b + \mathbf{H}_b \|}^2

    where :math:`b` are the nodes of the batch, and all pairs of a batch share
    the negative items of the `sampled softmax
    <https://arxiv.org/abs/2201.02327>`_.
    """

    loss_names = ('softmax', 'reg', 'contrastive')

    def __init__(self, data, config=None, modalities=None, device='cpu'):
        config = ItemGraphConfig() if config is None else config
        super().__init__(data, config, OBSERVED, device)
        features = modality_features(data['item'], self.num_items, modalities)
        self.modalities = list(features)
        self.features = [
            standardize(x).float().to(self.device) for x in features.values()
        ]
        with self.random_state.entered():
            self.model = ItemGraphGCN(
                self.num_users,
                self.num_items,
                [x.size(1) for x in self.features],
                config.embedding_dim,
                config.num_layers,
            ).to(self.device)
        data = ItemKNNGraph(config.num_neighbors, self.modalities)(data)
        similar = [
            data['item', f'similar_{m}', 'item'].edge_index.to(self.device)
            for m in self.modalities
        ]
        self.graphs = self.model.adjacency_list(self.edge_index, similar)
        self.reset_optimizers()

    @property
    def data_dict(self):
        r"""A checkpoint is resumed on the same data only."""
        features = zip(self.modalities, self.features)
        return {**super().data_dict, **{f'x_{m}': x for m, x in features}}

    def order(self):
        r"""Draws the interactions of an epoch with replacement."""
        user, exponent = self.positives[0], self.config.user_exponent
        # `torch.multinomial` takes at most 2^24 categories.
        weight = user.bincount()[user].double().pow(-exponent).cumsum(0)
        place = torch.rand_like(weight) * weight[-1]
        order = torch.searchsorted(weight, place, right=True)
        return order.clamp_(max=user.numel() - 1)

    def loss(self, batch):
        c = self.config
        user, positive, _ = batch  # Negative items are shared instead.
        negative = torch.randint(
            self.num_items, (c.num_negatives,), device=self.device
        )
        z, h = self.model(self.features, self.graphs)
        x_user, x_item = (a + b for a, b in zip(z, h))
        rows = x_user[user], x_item[positive], x_item[negative]
        score = torch.cat(
            [(rows[0] * rows[1]).sum(1, keepdim=True), rows[0] @ rows[2].t()], 1
        )
        contrastive = sum(
            info_nce(a, b, index, c.temperature, c.num_candidates)
            for a, b, index in zip(z, h, (user, positive))
        )
        reg = sum(x.square().sum() / len(x) for x in rows)
        return {
            'softmax': F.cross_entropy(score, torch.zeros_like(user)),
            'reg': c.reg_weight * reg,
            'contrastive': c.ssl_weight * contrastive,
        }

    @torch.no_grad()
    def embeddings(self):
        z, h = self.model(self.features, self.graphs)
        user, item = (a + b for a, b in zip(z, h))
        return user, item


def show(record):
    loss = sum(record['loss'].values())
    val = record['val']['recall@20']
    print(f'Epoch {record["epoch"]}: loss {loss:.4f}, val recall@20 {val:.4f}')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--root', type=expanduser, default='data/movielens-100k'
    )
    parser.add_argument('--epochs', type=int, default=1000, help='at most')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    data = MovieLens100K(args.root, ['text', 'genre'])[0]
    config = ItemGraphConfig(num_epochs=args.epochs, seed=args.seed)
    trainer = Trainer(ItemGraphTask(data, config))
    trainer.fit(callback=show)
    store = data[OBSERVED]
    test = evaluate(
        *trainer.embeddings(), store.test_edge_label_index, store.edge_index
    )
    print(f'Test recall@20 {test["recall@20"]:.4f}, epoch chosen by validation')


if __name__ == '__main__':
    main()
