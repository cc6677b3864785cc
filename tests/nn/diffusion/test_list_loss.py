r"""Against the plain form, the method `loss` of a diffusion."""

import copy

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import GaussianDiffusion, MaskedDiffusion
from diffmm_geo.nn.diffusion.list_loss import (
    input_form,
    list_loss,
    output_form,
)
from diffmm_geo.sparse import CSR

U, I, F = 10, 8, 3
NOISELESS, MASKED = GaussianDiffusion(4, 1.0, 0.0, 0.0), MaskedDiffusion(3)


@pytest.mark.parametrize('hidden_channels', [5, [4, 6]])
@pytest.mark.parametrize('msi_weight', [0.1, 0])
@pytest.mark.parametrize(
    ('process', 'form'),
    [
        *((NOISELESS, form) for form in ('auto', 'dense', 'gram')),
        *((MASKED, form) for form in ('auto', 'dense', 'gram', 'sampled')),
    ],
)
def test_agrees_with_plain(
    make, monkeypatch, x_start, process, form, hidden_channels, msi_weight
):
    kwargs = {'dropout': 0.0, 'hidden_channels': hidden_channels}
    diffusion = make(copy.deepcopy(process), **kwargs).double()
    if process is NOISELESS:  # Only the step is random.
        diffusion.diffusion.sqrt_one_minus_alphas_cumprod.zero_()
    x = x_start.double()
    lists = CSR.from_edge_index(x.nonzero().t(), (U, I))
    emb, t = torch.randn(2, I, F).double(), torch.randint(3, (U,))
    scale, noise = torch.rand(2, U).double(), torch.rand(U, I).double()

    def run(loss):
        out = torch.stack(loss)
        parameters = list(diffusion.parameters())
        return out, *torch.autograd.grad((out * scale).sum(), parameters)

    expected = run(diffusion.loss(x, *emb, msi_weight, t, noise))
    if process is MASKED:  # The same masks.
        drawn = noise[lists.row, lists.col]
        monkeypatch.setattr(torch, 'rand', lambda *args, **kwargs: drawn)
    out = run(list_loss(diffusion, lists, *emb, msi_weight, form, t))
    for got, exact in zip(out, expected):
        assert_close(got, exact)


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('form', ['auto', 'dense', 'gram', 'sampled'])
def test_mean_agrees_with_plain(make, edge_index, form, normalize):
    diffusion = make(
        GaussianDiffusion(4, 1.0, 0.01, 0.3), dropout=0.3, normalize=normalize
    )
    repeats = 400
    rows = torch.arange(U).repeat(repeats)
    lists = CSR.from_edge_index(edge_index, (U, I)).take(rows)
    emb = torch.randn(I, F), torch.randn(I, F)
    with torch.no_grad():
        out = list_loss(diffusion, lists, *emb, 0.1, form)
        expected = diffusion.loss(lists.dense(emb[0]), *emb, 0.1)
    for got, exact in zip(out, expected):
        assert got.size() == (U * repeats,)
        # Few rows of noise serve all in the sampled form.
        tolerance = 0.2 if form == 'sampled' else 0.05
        assert float(got.mean()) == pytest.approx(
            float(exact.mean()), rel=tolerance
        )


def test_sampled_form_is_trained_on_as_many_rows_as_there_are(make, edge_index):
    diffusion, emb = make(), torch.randn(I, F)
    lists = CSR.from_edge_index(edge_index, (U, I))
    elbo, msi = list_loss(diffusion, lists, emb, emb, 0.0, 'sampled')
    (elbo.mean() + msi.mean()).backward()
    assert msi.equal(torch.zeros(U))
    grad = diffusion.denoiser.item_weight.grad
    assert grad.isfinite().all() and grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('batch_size', 'num_items', 'hidden', 'dropout', 'expected'),
    [
        (1024, 6710, 1000, 0.5, ('dense', 'gram')),
        (1024, 6710, 64, 0.5, ('gram', 'gram')),
        (64, 6710, 1000, 0.0, ('dense', 'dense')),
        (1024, 200, 64, 0.5, ('dense', 'gram')),
        (1024, 200, 64, 0.0, ('gram', 'gram')),
        # A million items: a small batch is cheaper as it is written.
        (1024, 10**6, 64, 0.5, ('gram', 'gram')),
        (16384, 10**6, 64, 0.5, ('gram', 'gram')),
        (16, 10**6, 64, 0.5, ('gram', 'dense')),
    ],
)
def test_auto_form(batch_size, num_items, hidden, dropout, expected):
    assert expected == (
        input_form(batch_size, num_items, hidden, dropout),
        output_form(batch_size, num_items, hidden),
    )
