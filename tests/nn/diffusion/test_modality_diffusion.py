import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import GaussianDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion import modality_diffusion, train_diffusion_epoch
from diffmm_geo.ops.topk import exclusion_lists

U, I, F = 10, 8, 3


@pytest.fixture
def edge_index(random_edges):
    return random_edges(U, I, 25)


def rows(edge_index):
    x = torch.zeros(U, I)
    x[edge_index[0], edge_index[1]] = 1
    return x


def make(modalities=('image', 'text'), process=None, **kwargs):
    kwargs = {'hidden_channels': 5, **kwargs}
    diffusion = ModalityDiffusion(I, modalities, process, **kwargs)
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return diffusion


def test_loss_equations(edge_index):
    process = GaussianDiffusion(4, 1.0, 1e-3, 0.5)
    diffusion = make(process=process, dropout=0.0)
    x, noise = rows(edge_index), torch.randn(U, I)
    t = torch.randint(4, (U,))
    item_emb = torch.randn(I, F, requires_grad=True)
    modality_emb = torch.randn(I, F, requires_grad=True)
    elbo, msi = diffusion.loss('text', x, item_emb, modality_emb, 0.1, t, noise)
    out = diffusion.denoisers['text'](process.q_sample(x, t, noise), t)
    weight = process.elbo_weight[t]
    assert_close(elbo, weight * (out - x).square().sum(1) / I)
    assert_close(msi, (out @ modality_emb - x @ item_emb).square().sum(1) / F)
    (elbo.mean() + msi.mean()).backward()
    assert item_emb.grad is None
    assert modality_emb.grad is None
    assert diffusion.denoisers['image'].item_weight.grad is None
    assert diffusion.denoisers['text'].item_weight.grad.abs().sum() > 0


def test_msi_is_not_computed_at_weight_zero(edge_index):
    _, msi = make().loss('text', rows(edge_index), None, None, 0)
    assert msi.equal(torch.zeros(U))


def test_loss_draws_all_steps(monkeypatch):
    diffusion = make()
    steps = []
    monkeypatch.setattr(
        diffusion.diffusion,
        'q_sample',
        lambda x, t, noise: steps.append(t) or x,
    )
    diffusion.loss('text', torch.zeros(500, I), None, None, 0)
    assert steps[0].unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('num_steps', [1, 2, 5])
@pytest.mark.parametrize('hidden', [5, [4, 6]])
@pytest.mark.parametrize('block', [6, 20, 2**22])
def test_hidden_size_agrees_with_dense(
    monkeypatch, edge_index, num_steps, hidden, block
):
    monkeypatch.setattr(modality_diffusion, 'BLOCK_SIZE', block)
    process = GaussianDiffusion(num_steps, 1.0, 1e-3, 0.5)
    diffusion = make(process=process, hidden_channels=hidden)
    score = diffusion.sample('image', rows(edge_index))
    for k in (1, 3, I):
        expected = score.topk(k).indices
        with monkeypatch.context() as patch:
            patch.setattr(diffusion, 'sample', None)
            out = diffusion.sample_edges('image', edge_index, U, k)
        assert out[0].equal(torch.arange(U).repeat_interleave(k))
        assert out[1].view(U, k).equal(expected)


@pytest.mark.parametrize('block', [1, 20, 2**22])
def test_dense_path(monkeypatch, edge_index, block):
    monkeypatch.setattr(modality_diffusion, 'BLOCK_SIZE', block)
    diffusion = make(normalize=True)
    out = diffusion.sample_edges('image', edge_index, U, 2)
    expected = diffusion.sample('image', rows(edge_index)).topk(2).indices
    assert out[1].view(U, 2).equal(expected)


def test_duplicates_and_order_do_not_matter(edge_index):
    diffusion = make()
    expected = diffusion.sample_edges('image', edge_index, U)
    twice = torch.cat([edge_index.flip(1), edge_index[:, ::2]], dim=1)
    assert diffusion.sample_edges('image', twice, U).equal(expected)


def test_reverse_process(edge_index):
    process = GaussianDiffusion(3, 1.0, 1e-3, 0.5)
    diffusion = make(process=process)
    denoiser = diffusion.denoisers['image'].eval()
    x = rows(edge_index)
    for t in (2, 1, 0):
        out = denoiser(x, torch.full((U,), t))
        x = (
            process.posterior_mean_coef1[t] * out
            + process.posterior_mean_coef2[t] * x
        )
    diffusion.train()
    actual = diffusion.sample('image', rows(edge_index))
    assert_close(actual, x)
    assert diffusion.denoisers['image'].training


def test_sampling_noise(monkeypatch, edge_index):
    process = GaussianDiffusion(3, 1.0, 1e-3, 0.5)
    diffusion = make(process=process)
    x, seen = rows(edge_index), []
    monkeypatch.setattr(
        torch, 'randn_like', lambda x: seen.append(x) or torch.ones_like(x)
    )
    actual = diffusion.sample('image', x, 2, True)
    denoiser = diffusion.denoisers['image'].eval()
    x = process.q_sample(x, torch.full((U,), 1), torch.ones(U, I))
    for t in (2, 1, 0):
        x = process.posterior_mean(denoiser(x, torch.full((U,), t)), x, t)
        if t > 0:
            x = x + process.posterior_variance[t].sqrt()
    assert_close(actual, x)
    # To diffuse, and at every step but the last.
    assert len(seen) == 3


def test_edges_of_noisy_samples_go_through_dense_rows(edge_index):
    diffusion = make(process=GaussianDiffusion(3, 1.0, 1e-3, 0.9))
    for steps, noise in ((2, False), (0, True)):
        torch.manual_seed(1)
        out = diffusion.sample_edges('image', edge_index, U, 2, steps, noise)
        torch.manual_seed(1)
        score = diffusion.sample('image', rows(edge_index), steps, noise)
        assert out[1].view(U, 2).equal(score.topk(2).indices)


def test_no_users_and_no_edges():
    diffusion = make()
    none = torch.empty(2, 0, dtype=torch.long)
    assert diffusion.sample_edges('image', none, 0).size() == (2, 0)
    out = diffusion.sample_edges('image', none, 3, 2)
    assert out.size() == (2, 6)
    # Nothing tells these users apart.
    assert out[1].view(3, 2).unique(dim=0).size(0) == 1


def test_double(edge_index):
    diffusion = make().double()
    expected = diffusion.sample('image', rows(edge_index).double())
    out = diffusion.sample_edges('image', edge_index, U, 2)
    assert out[1].view(U, 2).equal(expected.topk(2).indices)


@pytest.mark.parametrize('name', ['keys', 'a.b', 'a%2Eb', 'type'])
def test_any_modality_name(edge_index, name):
    diffusion = make([name, 'a.b' if name != 'a.b' else 'other'])
    assert list(diffusion.denoisers)[0] == name
    assert diffusion.sample_edges(name, edge_index, U).size() == (2, U)


def test_train_diffusion_epoch(edge_index):
    diffusion = make()
    optimizer = torch.optim.SGD(diffusion.parameters(), lr=0.0)
    emb, steps = torch.randn(I, F), []
    args = (
        diffusion,
        optimizer,
        exclusion_lists(edge_index, U),
        emb,
        {'image': emb, 'text': emb},
    )
    seen = []
    loss = diffusion.loss
    diffusion.loss = lambda m, x, *a: seen.append(x) or loss(m, x, *a)
    out = train_diffusion_epoch(
        *args, batch_size=3, on_step=lambda: steps.append(1)
    )
    assert list(out) == ['image', 'text']
    assert all(math.isfinite(v) and v > 0 for v in out.values())
    assert len(steps) == 4
    # Every user's row, once a modality.
    actual = torch.cat(seen[::2]).tolist()
    assert sorted(actual) == sorted(rows(edge_index).tolist())


@pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('modality', {'modality': 'audio'}),
        ('edge_index', {'edge_index': torch.tensor([[U], [0]])}),
        ('edge_index', {'edge_index': torch.tensor([[0], [I]])}),
        ('num_users', {'num_users': -1}),
        ('num_edges_per_user', {'num_edges_per_user': I + 1}),
        ('num_edges_per_user', {'num_edges_per_user': 0}),
        ('sampling_steps', {'sampling_steps': 6}),
        ('sampling_steps', {'sampling_steps': -1}),
    ],
)
def test_bad_sample_edges(edge_index, name, args):
    default = {'modality': 'image', 'edge_index': edge_index, 'num_users': U}
    with pytest.raises(ValueError, match=f"'{name}'"):
        make().sample_edges(**{**default, **args})


@pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('modality', {'modality': 'audio'}),
        ('x_start', {'x_start': torch.zeros(U, I + 1)}),
        ('x_start', {'x_start': torch.zeros(U, I).long()}),
        ('item_emb', {'item_emb': torch.zeros(I + 1, F)}),
        ('modality_emb', {'modality_emb': torch.zeros(I, F + 1)}),
        ('msi_weight', {'msi_weight': -1.0}),
    ],
)
def test_bad_loss(name, args):
    default = {
        'modality': 'image',
        'x_start': torch.zeros(U, I),
        'item_emb': torch.zeros(I, F),
        'modality_emb': torch.zeros(I, F),
    }
    make().loss(**default)
    with pytest.raises(ValueError, match=f"'{name}'"):
        make().loss(**{**default, **args})


def test_repr():
    assert str(make()) == "ModalityDiffusion(8, ['image', 'text'])"
