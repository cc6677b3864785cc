from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.training import Trainer
from diffmm_geo.transforms import ItemKNNGraph
from examples.item_graph_gcn import OBSERVED, ItemGraphConfig, ItemGraphTask

SMALL = {'batch_size': 32, 'embedding_dim': 8, 'num_neighbors': 3, 'k': 3}


def normalized(edge_index, size):
    r"""The dense, normalized adjacency. Rows receive."""
    out = torch.zeros(size)
    out[edge_index[0], edge_index[1]] = 1
    scale = [out.sum(d, keepdim=True).clamp(min=1).rsqrt() for d in (0, 1)]
    return scale[0] * out * scale[1]


def dense_views(task, data):
    model, num_users = task.model, task.num_users
    num_nodes = num_users + task.num_items
    user, item = model.user_emb.weight, model.item_emb.weight
    r = normalized(task.edge_index, (num_users, task.num_items))
    joint = torch.zeros(num_nodes, num_nodes)
    joint[:num_users, num_users:], joint[num_users:, :num_users] = r, r.t()
    powers = [joint.matrix_power(n) for n in range(model.num_layers + 1)]
    z = sum(powers) @ torch.cat([user, item]) / len(powers)
    h_item = 0
    for n, m in enumerate(task.modalities):
        x = data['item'][f'x_{m}']
        x = (x - x.mean(0)) / x.std(0, correction=0) / x.size(1) ** 0.5
        gate = model.gates[n](model.projections[n](x)).sigmoid()
        similar = ItemKNNGraph(3)(data)['item', f'similar_{m}', 'item']
        to_item = normalized(similar.edge_index.flip(0), 2 * [task.num_items])
        h_item = h_item + to_item @ (item * gate) / len(task.modalities)
    return z, torch.cat([r @ h_item, h_item])


@pytest.fixture
def task(planted):
    config = ItemGraphConfig(
        num_layers=3,
        temperature=0.5,
        ssl_weight=0.7,
        num_candidates=None,
        **SMALL,
    )
    task = ItemGraphTask(planted(), config)
    torch.nn.init.normal_(task.model.user_emb.weight)
    torch.nn.init.normal_(task.model.item_emb.weight)
    return task


def test_equations(task, planted):
    z, h = dense_views(task, planted())
    views = task.model(task.features, task.graphs)
    assert_close(torch.cat(views[0]), z)
    assert_close(torch.cat(views[1]), h)
    assert_close(torch.cat(task.embeddings()), z + h)
    # What a resumed run compares: its features, too.
    assert {'edge_index', 'x_image', 'x_text'} <= task.data_dict.keys()


def test_loss(task, planted, monkeypatch):
    z, h = dense_views(task, planted())
    negative = torch.tensor([3, 0, 6, 6])
    monkeypatch.setattr(torch, 'randint', lambda *args, **kwargs: negative)
    batch = torch.tensor([[0, 4, 4], [1, 5, 2], [0, 0, 0]])

    n = task.num_users
    x_user, x_item = (z + h).split([n, task.num_items])
    user, pos, neg = x_user[batch[0]], x_item[batch[1]], x_item[negative]
    score = torch.cat([(user * pos).sum(1)[:, None], user @ neg.t()], dim=1)

    def contrast(part, index):
        a, b = F.normalize(z[part]), F.normalize(h[part])
        return F.cross_entropy((a @ b.t() / 0.5)[index], index)

    ssl = contrast(slice(n), batch[0]) + contrast(slice(n, None), batch[1])
    norm = sum(x.square().sum() / len(x) for x in (user, pos, neg))
    loss = task.loss(batch)
    assert tuple(loss) == task.loss_names
    assert_close(loss['softmax'], -score.log_softmax(dim=1)[:, 0].mean())
    assert_close(loss['reg'], 1e-4 * norm)
    assert_close(loss['contrastive'], 0.7 * ssl)
    sum(loss.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in task.model.parameters())


def test_learns_about_items_without_interactions(planted):
    data = planted()
    store = data[OBSERVED]
    store.edge_index = store.edge_index[:, store.edge_index[1] >= 4]
    config = ItemGraphConfig(num_epochs=40, num_negatives=16, **SMALL)
    trainer = Trainer(ItemGraphTask(data, replace(config, lr=2e-2)))
    trainer.fit()
    assert trainer.best_val['val']['recall@3'] > 0.75
    user, item = trainer.embeddings()
    # One item of each community.
    found = (user @ item[:4].t()).argmax(dim=-1)
    assert (found == torch.arange(32) % 4).float().mean() > 0.75


@pytest.mark.parametrize('exponent', [0.5, 1.0])
def test_heavy_users_count_less(planted, exponent):
    data, num_epochs = planted(), 300
    more = torch.stack([torch.zeros(18).long(), torch.arange(2, 20)])
    edge_index = torch.cat([data[OBSERVED].edge_index, more], dim=1)
    data[OBSERVED].edge_index = edge_index = edge_index.unique(dim=1)
    task = ItemGraphTask(data, ItemGraphConfig(**SMALL, user_exponent=exponent))
    order = torch.cat([task.order() for _ in range(num_epochs)])
    user = task.positives[0]
    expected = user.bincount().double() ** (1 - exponent)
    expected *= order.numel() / expected.sum()
    count = user[order].bincount().double()
    assert ((count - expected).abs() < 5 * expected.sqrt()).all()
    assert order.unique().numel() == user.numel()
