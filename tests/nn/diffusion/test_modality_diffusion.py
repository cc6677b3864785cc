import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import GaussianDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion import modality_diffusion, train_diffusion_epoch
from diffmm_geo.nn.diffusion.forms import input_form, output_form
from diffmm_geo.ops.item_lists import ItemLists

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
        '_diffuse',
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


def test_equal_users_are_computed_once(monkeypatch):
    edge_index = torch.tensor([[0, 0, 1, 2, 2, 4], [1, 3, 2, 3, 1, 2]])
    diffusion = make()
    expected = diffusion.sample('image', rows(edge_index)).topk(2).indices
    batches = []
    reverse = diffusion._reverse(diffusion.denoisers['image'])
    monkeypatch.setattr(
        diffusion,
        '_reverse',
        lambda _: lambda z: batches.append(z) or reverse(z),
    )
    out = diffusion.sample_edges('image', edge_index, U, 2)
    assert out[1].view(U, 2).equal(expected)
    assert sum(map(len, batches)) == 3  # {1, 3}, {2} and no item


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


@pytest.mark.parametrize('normalize', [False, True])
def test_candidates(edge_index, normalize):
    diffusion = make(normalize=normalize)
    candidates = torch.tensor([6, 1, 4])
    out = diffusion.sample_edges(
        'text', edge_index, U, 2, candidates=candidates
    )
    score = diffusion.sample('text', rows(edge_index))[:, candidates]
    expected = candidates[score.topk(2, dim=1).indices]
    assert out[1].view(U, 2).equal(expected)
    # In another order, the same.
    other = diffusion.sample_edges(
        'text', edge_index, U, 2, candidates=candidates.flip(0)
    )
    assert other.equal(out)


@pytest.mark.parametrize('name', ['keys', 'a.b', 'a%2Eb', 'type'])
def test_any_modality_name(edge_index, name):
    diffusion = make([name, 'a.b' if name != 'a.b' else 'other'])
    assert list(diffusion.denoisers)[0] == name
    assert diffusion.sample_edges(name, edge_index, U).size() == (2, U)


@pytest.mark.parametrize('form', ['auto', 'dense', 'gram'])
@pytest.mark.parametrize('hidden_channels', [5, [4, 6]])
def test_batch_loss_agrees_with_loss(edge_index, form, hidden_channels):
    # Without noise, all that is random is the step.
    process = GaussianDiffusion(4, 1.0, 0.0, 0.0)
    process.sqrt_one_minus_alphas_cumprod.zero_()
    diffusion = make(
        process=process, dropout=0.0, hidden_channels=hidden_channels
    ).double()
    lists = ItemLists.from_edge_index(edge_index, U)
    x, t = rows(edge_index).double(), torch.randint(4, (U,))
    emb = torch.randn(I, F).double(), torch.randn(I, F).double()
    scale = torch.rand(2, U).double()

    def run(loss):
        out = torch.stack(loss)
        parameters = list(diffusion.denoisers['text'].parameters())
        return out, *torch.autograd.grad((out * scale).sum(), parameters)

    noise = torch.zeros(U, I).double()
    expected = run(diffusion.loss('text', x, *emb, 0.1, t, noise))
    out = run(diffusion.batch_loss('text', lists, *emb, 0.1, form, t))
    for got, exact in zip(out, expected):
        assert_close(got, exact)


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('form', ['auto', 'dense', 'gram', 'sampled'])
def test_forms_of_batch_loss(edge_index, form, normalize):
    r"""The mean loss of each form is that of the plain one."""
    process = GaussianDiffusion(4, 1.0, 0.01, 0.3)
    diffusion = make(process=process, dropout=0.3, normalize=normalize)
    repeats = 400
    edges = edge_index.repeat(1, repeats)
    shift = torch.arange(repeats).repeat_interleave(edge_index.size(1)) * U
    edges[0] += shift
    lists = ItemLists.from_edge_index(edges, U * repeats)
    emb = torch.randn(I, F), torch.randn(I, F)
    with torch.no_grad():
        out = diffusion.batch_loss('text', lists, *emb, 0.1, form)
        x = rows(edge_index).repeat(repeats, 1)
        expected = diffusion.loss('text', x, *emb, 0.1)
    for got, exact in zip(out, expected):
        assert got.size() == (U * repeats,)
        # Few rows of noise serve all in the sampled form.
        tolerance = 0.2 if form == 'sampled' else 0.05
        assert float(got.mean()) == pytest.approx(
            float(exact.mean()), rel=tolerance
        )


def test_sampled_form_is_trained_on_as_many_rows_as_there_are(edge_index):
    diffusion = make()
    lists = ItemLists.from_edge_index(edge_index, U)
    emb = torch.randn(I, F)
    elbo, msi = diffusion.batch_loss('text', lists, emb, emb, 0.0, 'sampled')
    (elbo.mean() + msi.mean()).backward()
    assert msi.equal(torch.zeros(U))
    grad = diffusion.denoisers['text'].item_weight.grad
    assert grad.isfinite().all() and grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('batch_size', 'num_items', 'hidden', 'dropout', 'expected'),
    [
        (1024, 6710, 1000, 0.5, ('dense', 'gram')),
        (1024, 6710, 64, 0.5, ('gram', 'gram')),
        (64, 6710, 1000, 0.0, ('dense', 'dense')),
        (1024, 200, 64, 0.5, ('dense', 'gram')),
        (1024, 200, 64, 0.0, ('gram', 'gram')),
    ],
)
def test_auto_form(batch_size, num_items, hidden, dropout, expected):
    assert expected == (
        input_form(batch_size, num_items, hidden, dropout),
        output_form(batch_size, num_items, hidden),
    )


def test_train_diffusion_epoch(edge_index):
    diffusion = make()
    optimizer = torch.optim.SGD(diffusion.parameters(), lr=0.0)
    emb, steps = torch.randn(I, F), []
    args = (
        diffusion,
        optimizer,
        ItemLists.from_edge_index(edge_index, U),
        emb,
        {'image': emb, 'text': emb},
    )
    seen = []
    loss = diffusion.batch_loss
    diffusion.batch_loss = lambda m, x, *a: seen.append(x) or loss(m, x, *a)
    out = train_diffusion_epoch(
        *args, batch_size=3, on_step=lambda: steps.append(1)
    )
    assert list(out) == ['image', 'text']
    assert all(math.isfinite(v) and v > 0 for v in out.values())
    assert len(steps) == 4
    # Every user's row, once a modality.
    actual = []
    for lists in seen[::2]:
        pairs = torch.stack([lists.row, lists.item])
        actual += rows(pairs)[: lists.num_rows].tolist()
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
        ('candidates', {'candidates': torch.tensor([I])}),
        ('candidates', {'candidates': torch.tensor([0.5])}),
        (
            'num_edges_per_user',
            {'candidates': torch.tensor([1]), 'num_edges_per_user': 2},
        ),
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
