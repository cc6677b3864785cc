import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops import propagate
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.tasks import neighbor_batches
from diffmm_geo.tasks.neighbor_batches import NeighborBatches
from diffmm_geo.tasks.seed_probability import SeedProbability
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol

pytest.importorskip('torch_sparse')

U, I = 40, 30
ALL = (-1, -1, -1)
GENERATED = ('user', 'denoised_image', 'item')


def make_trainer(data, **kwargs):
    kwargs = {
        'batching': 'neighbor',
        'batch_size': 32,
        'embedding_dim': 8,
        'hidden_channels': 8,
        'k': 3,
        # Standardized, the planted features leave nothing to learn.
        'standardize': False,
        **kwargs,
    }
    edge_type = kwargs.pop('edge_type', OBSERVED)
    return DiffMMTrainer(data, DiffMMConfig(**kwargs), edge_type=edge_type)


@pytest.fixture
def graphs(random_edges):
    r"""Two graphs; the last user and item have no edges."""
    return {
        t: BipartiteAdj.from_adj(
            random_edges(U, I, number), (U, I), prepare=True
        )
        for t, number in ((OBSERVED, 300), (GENERATED, 150))
    }


def edges_of(adj):
    pattern = adj.to_user.pattern
    return torch.stack([pattern.row, pattern.col])


def batches_of(edge_index, size):
    negative = torch.randint(I, (edge_index.size(1),))
    return torch.stack([*edge_index, negative]).split(size, dim=1)


class TestNeighborTrainer(Protocol):
    r"""The protocol of tasks, with a sample of the neighbors."""

    def make(self, data, **kwargs):
        return make_trainer(data, **{'num_neighbors': (4, 3, 2), **kwargs})


@pytest.mark.parametrize('num_batches', [1, 2, 5, 32])
@pytest.mark.parametrize('num_neighbors', [ALL, (2, 1), (1,)])
def test_batches(graphs, num_neighbors, num_batches, monkeypatch):
    monkeypatch.setattr(neighbor_batches, 'NUM_BATCHES', num_batches)
    observed = edges_of(graphs[OBSERVED])
    batches = batches_of(observed[:, torch.randperm(300)], 64)
    probability = SeedProbability(observed, observed, U, I)
    sampler = NeighborBatches(graphs, OBSERVED, num_neighbors)
    out = list(sampler.sample(batches, probability))
    assert len(out) == len(batches) == 5
    for batch, (user, positive, negative) in zip(out, batches):
        n_id = batch.n_id_dict
        assert n_id['user'][batch.triples[0]].equal(user)
        assert n_id['item'][batch.triples[1]].equal(positive)
        assert n_id['item'][batch.triples[2]].equal(negative)
        for t, nodes, inclusion in zip(
            ('user', 'item'),
            (user, torch.cat([positive, negative])),
            probability(user.numel()),
        ):
            assert n_id[t].unique().numel() == n_id[t].numel()
            seed, weight = batch.sample_dict[t]
            assert n_id[t][seed].equal(nodes.unique())
            assert_close(weight, 1 / inclusion[n_id[t][seed]])
        # Sampled edges are edges, none twice.
        for t, adj in batch.adj_dict.items():
            known = set(map(tuple, edges_of(graphs[t]).t().tolist()))
            for matrix, nodes, fan_out in (
                (adj.to_user, ('user', 'item'), num_neighbors[0]),
                (adj.to_item, ('item', 'user'), num_neighbors[0]),
            ):
                pattern = matrix.pattern
                row = n_id[nodes[0]][pattern.row].tolist()
                col = n_id[nodes[1]][pattern.col].tolist()
                pairs = list(zip(row, col))
                if nodes[0] == 'item':
                    pairs = [pair[::-1] for pair in pairs]
                assert len(set(pairs)) == len(pairs)
                assert known.issuperset(pairs)
                if fan_out > 0:
                    assert int(pattern.rowptr.diff().max()) <= fan_out


def test_step_is_unbiased(graphs):
    r"""At all nodes of the triples, of all graphs, both ways."""
    observed = edges_of(graphs[OBSERVED])
    x_user, x_item = torch.randn(U, 3), torch.randn(I, 3)
    expected = {t: propagate(a, x_user, x_item) for t, a in graphs.items()}
    probability = SeedProbability(observed, observed, U, I)
    # Neighbors of the same triples are sampled again and again.
    count = 1000
    batches = batches_of(observed, 300)
    total = {t: [0, 0] for t in graphs}
    square = {t: [0, 0] for t in graphs}
    for _ in range(count):
        sampler = NeighborBatches(graphs, OBSERVED, [2])
        (batch,) = sampler.sample(batches, probability)
        user, item = batch.n_id_dict['user'], batch.n_id_dict['item']
        for t, adj in batch.adj_dict.items():
            out = propagate(adj, x_user[user], x_item[item])
            for n, (node, part) in enumerate(zip(('user', 'item'), out)):
                seed, _ = batch.sample_dict[node]
                total[t][n] = total[t][n] + part[seed]
                square[t][n] = square[t][n] + part[seed] ** 2
    for t in graphs:
        for n, node in enumerate(('user', 'item')):
            seed, _ = batch.sample_dict[node]
            truth = expected[t][n][batch.n_id_dict[node][seed]]
            mean = total[t][n] / count
            error = (square[t][n] / count - mean**2).clamp(min=0) / count
            deviation = (mean - truth).abs() / (error.sqrt() + 1e-3)
            assert float(deviation.max()) < 5
            assert float(error.max()) > 0


def start(data, **kwargs):
    task = make_trainer(data, **kwargs).task
    task.start_epoch()
    return task


def gradients(model, losses):
    model.zero_grad()
    sum(losses.values()).backward()
    out = {}
    for name, p in model.named_parameters():
        out[name] = p.grad.to_dense() if p.grad.is_sparse else p.grad
    return out


@pytest.mark.parametrize('num_layers', [0, 1, 2])
@pytest.mark.parametrize('ssl_weight', [0.0, 0.1])
def test_all_neighbors_are_the_whole_graph(planted, ssl_weight, num_layers):
    r"""Batches without contrast, and one batch of all interactions with it,
    where all nodes are candidates.
    """
    whole = ssl_weight > 0
    task = start(
        planted(),
        num_neighbors=(num_layers + 2) * (-1,),
        num_layers=num_layers,
        keep_rate=1.0,
        ssl_weight=ssl_weight,
        reg_weight=0.1 if whole else 0.0,
        batch_size=96 if whole else 7,
    )
    for batch in task.batches():
        losses = task.loss(batch)
        grads = gradients(task.model, losses)
        for table in (task.model.user_emb, task.model.item_emb):
            assert table.weight.grad.is_sparse
        user, positive, negative = batch.triples
        # A plain batch propagates over the whole graph.
        nodes = [
            batch.n_id_dict['user'][user],
            batch.n_id_dict['item'][positive],
            batch.n_id_dict['item'][negative],
        ]
        expected = task.loss(torch.stack(nodes))
        assert_close(losses, expected)
        exact = gradients(task.model, expected)
        assert_close(grads, exact, rtol=1e-4, atol=1e-6)


def test_regularization_is_that_of_the_rows(planted):
    task = start(
        planted(), reg_weight=0.5, batch_size=2, num_neighbors=(1, 1, 1)
    )
    batch = next(task.batches())
    task.loss(batch)['reg'].backward()
    for table, node in (('user_emb', 'user'), ('item_emb', 'item')):
        weight = getattr(task.model, table).weight
        expected = torch.zeros_like(weight)
        rows = batch.n_id_dict[node]
        expected[rows] = weight.detach()[rows]
        assert rows.numel() < weight.size(0)
        assert_close(weight.grad.to_dense(), expected)


def test_other_rows_stay(planted):
    task = start(
        planted(), batch_size=2, num_neighbors=(1, 1, 1), ssl_weight=0.0
    )
    weight = task.model.user_emb.weight
    before = weight.detach().clone()
    batch = next(task.batches())
    sum(task.loss(batch).values()).backward()
    for optimizer in task.loss_optimizers:
        optimizer.step()
    changed = (weight != before).any(dim=1).nonzero().view(-1)
    assert 0 < changed.numel() < 32
    assert set(changed.tolist()) <= set(batch.n_id_dict['user'].tolist())


def test_entries_of_generated_graphs_are_dropped_in_each_step(planted):
    task = start(planted(), num_neighbors=ALL, batch_size=96)
    dropped = []
    for _ in range(2):
        (batch,) = task.batches()
        observed = batch.adj_dict[OBSERVED].to_user.value
        assert bool((observed > 0).all())
        adj = batch.adj_dict[GENERATED]
        for values in (adj.to_user.value, adj.to_item.value, adj.user_loop):
            assert 0 < int((values == 0).sum()) < values.numel()
        dropped.append(adj.user_loop)
    assert not dropped[0].equal(dropped[1])


def test_num_candidates(planted):
    trainer = make_trainer(planted(), num_candidates=5, num_epochs=1)
    assert math.isfinite(trainer.fit()[0]['loss']['contrastive'])


def test_optimizers(planted):
    trainer = make_trainer(planted(), num_epochs=1)
    assert list(trainer.task.optimizers) == ['model', 'diffusion', 'tables']
    weights = {
        name: {id(p) for g in o.param_groups for p in g['params']}
        for name, o in trainer.task.optimizers.items()
    }
    model = trainer.model
    tables = {id(model.user_emb.weight), id(model.item_emb.weight)}
    assert weights['tables'] == tables
    rest = {id(p) for p in model.parameters()} - tables
    assert weights['model'] == rest
    before = [p.detach().clone() for p in model.parameters()]
    trainer.fit()
    for old, new in zip(before, model.parameters()):
        assert not old.equal(new)


def test_too_few_hops(planted):
    with pytest.raises(ValueError, match="'num_neighbors' needs num_layers"):
        make_trainer(planted(), num_neighbors=(5, 5))
    with pytest.raises(ValueError, match="'num_neighbors' needs num_layers"):
        make_trainer(planted(), num_layers=2)


def test_without_a_sampler(planted, monkeypatch):
    typing = neighbor_batches.torch_geometric.typing
    monkeypatch.setattr(typing, 'WITH_TORCH_SPARSE', False)
    monkeypatch.setattr(typing, 'WITH_PYG_LIB', False)
    with pytest.raises(ImportError, match="extra 'sparse'"):
        make_trainer(planted())


def test_unprepared_graph(random_edges):
    adj = BipartiteAdj.from_adj(random_edges(U, I, 9), (U, I))
    with pytest.raises(ValueError, match="'adj_dict' needs a prepared"):
        NeighborBatches({OBSERVED: adj}, OBSERVED, [1])
