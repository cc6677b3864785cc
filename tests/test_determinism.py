r"""Under `torch.use_deterministic_algorithms`, everything runs, and two runs
are equal bit for bit.
"""

import pytest
import torch

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import DiffMM, ModalityDiffusion, info_nce
from diffmm_geo.nn.conv import MultiModalLightGCNConv
from diffmm_geo.nn.diffusion import FORMS
from diffmm_geo.ops import available_backends, propagate, spmm, topk_items
from diffmm_geo.sparse import CSR, BipartiteAdj, SparseMatrix
from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
)
from diffmm_geo.transforms import ModalityAwareGraphDiffusion

NUM_USERS, NUM_ITEMS = 30, 20
OBSERVED = ('user', 'interacts', 'item')
BACKENDS = available_backends('cpu')


@pytest.fixture(autouse=True)
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def check_twice(make):
    r"""Outputs and gradients of the function that :obj:`make` returns, with
    respect to the tensors that it also returns.
    """
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        function, inputs = make()
        for x in inputs:
            x.requires_grad_()
        out = function()
        out = out if isinstance(out, (tuple, list)) else [out]
        grads = []
        if inputs:
            total = sum((x * torch.randn_like(x)).sum() for x in out)
            grads = torch.autograd.grad(total, inputs)
        found.append([*out, *grads])
    assert all(x.equal(y) for x, y in zip(*found))


def edges(num_edges=120):
    pairs = torch.randperm(NUM_USERS * NUM_ITEMS)[:num_edges]
    return torch.stack([pairs // NUM_ITEMS, pairs % NUM_ITEMS])


def graphs(modalities):
    generated = [('user', f'denoised_{m}', 'item') for m in modalities]
    return {OBSERVED: edges(), **{t: edges(30) for t in generated}}


@pytest.mark.parametrize('name', BACKENDS)
def test_spmm(name):
    def make():
        value, x = torch.rand(120), torch.randn(NUM_ITEMS, 8)
        row, col = edges()
        size = (NUM_USERS, NUM_ITEMS)

        def run():
            return spmm(SparseMatrix.from_coo(row, col, value, size), x, name)

        return run, [value, x]

    check_twice(make)


@pytest.mark.parametrize('name', BACKENDS)
def test_propagate(name):
    def make():
        adj = BipartiteAdj.from_adj(
            edges(), (NUM_USERS, NUM_ITEMS), prepare=True
        )
        x = [torch.randn(NUM_USERS, 8), torch.randn(NUM_ITEMS, 8)]
        return lambda: propagate(adj, *x, name), x

    check_twice(make)


@pytest.mark.parametrize('num_candidates', [None, 7])
def test_info_nce(num_candidates):
    def make():
        x = [torch.randn(NUM_USERS, 8), torch.randn(NUM_USERS, 8)]
        index = torch.randint(NUM_USERS, (50,))
        return lambda: info_nce(*x, index, 0.5, num_candidates), x

    check_twice(make)


def test_topk_and_evaluation():
    def make():
        user, item = torch.randn(NUM_USERS, 8), torch.randn(NUM_ITEMS, 8)
        held_out, observed = edges(20), edges()

        def run():
            lists = CSR.from_edge_index(observed, (NUM_USERS, NUM_ITEMS))
            out = evaluate(user, item, held_out, observed, 5)
            top = topk_items(user, item, 5, exclude=lists)
            return top, torch.tensor(list(out.values()))

        return run, []

    check_twice(make)


def test_multi_modal_light_gcn_conv(adj_form):
    def make():
        x = {
            'user': torch.randn(NUM_USERS, 8),
            'item': torch.randn(NUM_ITEMS, 8),
        }
        features = {m: torch.randn(NUM_ITEMS, 8) for m in ('image', 'text')}
        conv = MultiModalLightGCNConv(['image', 'text'])
        graph = {
            t: adj_form(edge_index, (NUM_USERS, NUM_ITEMS))
            for t, edge_index in graphs(features).items()
        }
        inputs = [*x.values(), *features.values(), *conv.parameters()]
        return lambda: list(conv(x, graph, features).values()), inputs

    check_twice(make)


@pytest.mark.parametrize('prepare', [False, True])
def test_diffmm(prepare):
    def make():
        channels = {'image': 3, 'text': 4}
        model = DiffMM(NUM_USERS, NUM_ITEMS, channels, 8)
        features = {m: torch.randn(NUM_ITEMS, c) for m, c in channels.items()}
        graph = graphs(features)
        if prepare:
            graph = {
                t: adj if t == OBSERVED else adj.dropout(0.5)
                for t, adj in model.adjacency_dict(graph).items()
            }

        def run():
            out, views = model(features, graph, return_views=True)
            return [x for d in (out, *views.values()) for x in d.values()]

        return run, list(model.parameters())

    check_twice(make)


@pytest.mark.parametrize('form', ['rows', *FORMS])
def test_diffusion(form):
    def make():
        diffusion = ModalityDiffusion(NUM_ITEMS, ['m'], hidden_channels=[6, 5])
        lists = CSR.from_edge_index(edges(), (NUM_USERS, NUM_ITEMS))
        emb = torch.randn(NUM_ITEMS, 4)

        def run():
            if form == 'rows':
                x_start = lists.dense(emb)
                return diffusion.loss('m', x_start, emb, emb)
            return diffusion.batch_loss('m', lists, emb, emb, form=form)

        return run, list(diffusion.parameters())

    check_twice(make)


@pytest.mark.parametrize('sampling_steps', [0, 3])
def test_transform(planted, sampling_steps):
    def make():
        data = planted()
        diffusion = ModalityDiffusion(24, ['image'], hidden_channels=8)
        transform = ModalityAwareGraphDiffusion(
            diffusion, sampling_steps=sampling_steps
        )

        def run():
            transform.fit(data, num_epochs=1, embedding_dim=4)
            out = transform(data)['user', 'denoised_image', 'item'].edge_index
            return [out, *(p.detach() for p in diffusion.parameters())]

        return run, []

    check_twice(make)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('kind', ['diffmm', 'lightgcn'])
def test_trainer(planted, kind, precision):
    shared = {'num_epochs': 2, 'batch_size': 16, 'k': 3, 'embedding_dim': 4}
    shared['precision'] = precision

    def make():
        trainer = (
            DiffMMTrainer(planted(), DiffMMConfig(hidden_channels=8, **shared))
            if kind == 'diffmm'
            else LightGCNTrainer(planted(), LightGCNConfig(**shared))
        )

        def run():
            trainer.fit()
            return trainer.embeddings()

        return run, []

    check_twice(make)
