r"""Under `torch.use_deterministic_algorithms`, everything runs, and two runs
are equal bit for bit.
"""

import pytest
import torch

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.nn.conv import MultiModalLightGCNConv
from diffmm_geo.nn.diffusion import FORMS
from diffmm_geo.ops import available_backends, propagate, spmm
from diffmm_geo.sparse import BipartiteAdj, SparseMatrix
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.transforms import ModalityAwareGraphDiffusion

SIZE = NUM_USERS, NUM_ITEMS = 30, 20
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
def test_products(name):
    def make():
        adj = BipartiteAdj.from_adj(edges(), SIZE, prepare=True)
        value, (row, col) = torch.rand(120), edges()
        x = [torch.randn(n, 8) for n in SIZE]

        def run():
            matrix = SparseMatrix.from_coo(row, col, value, SIZE)
            return [*propagate(adj, *x, name), spmm(matrix, x[1], name)]

        return run, [value, *x]

    check_twice(make)


def test_layer(adj_form):
    def make():
        x = {t: torch.randn(n, 8) for t, n in zip(('user', 'item'), SIZE)}
        features = {m: torch.randn(NUM_ITEMS, 8) for m in ('image', 'text')}
        conv = MultiModalLightGCNConv(['image', 'text'])
        graph = {t: adj_form(e, SIZE) for t, e in graphs(features).items()}
        inputs = [*x.values(), *features.values(), *conv.parameters()]
        return lambda: list(conv(x, graph, features).values()), inputs

    check_twice(make)


@pytest.mark.parametrize('sampling_steps', [0, 3])
def test_transform(planted, sampling_steps):
    def make():
        data = planted()
        diffusion = ModalityDiffusion(24, ['image'], hidden_channels=[8, 6])
        transform = ModalityAwareGraphDiffusion(
            diffusion, sampling_steps=sampling_steps
        )

        def run():
            transform.fit(data, num_epochs=1, embedding_dim=4)
            return [
                transform(data)['user', 'denoised_image', 'item'].edge_index
            ]

        return run, []

    check_twice(make)


@pytest.mark.parametrize(
    'settings',
    [
        {'precision': 'bf16'},
        *({'likelihood': 'gaussian', 'diffusion_form': f} for f in FORMS),
        {'diffusion_form': 'sampled'},
        {'likelihood': 'multinomial', 'keep_rate': 0.5, 'num_candidates': 7},
    ],
)
def test_trainer(planted, settings):
    sizes = {'batch_size': 16, 'embedding_dim': 4, 'hidden_channels': 8}
    config = DiffMMConfig(num_epochs=2, k=3, **sizes, **settings)

    def make():
        trainer = DiffMMTrainer(planted(), config)

        def run():
            metrics = trainer.fit()[-1]['val']
            weights = [*trainer.model.parameters()]
            weights += [*trainer.task.diffusion.parameters()]
            return [
                torch.tensor([*metrics.values()]),
                *trainer.embeddings(),
            ] + [p.detach() for p in weights]

        return run, []

    check_twice(make)
