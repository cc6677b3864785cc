import torch
from torch.testing import assert_close

U, I, F = 10, 8, 3


def test_loss_equations(make, x_start):
    diffusion = make(dropout=0.0)
    process, noise = diffusion.diffusion, torch.randn(U, I)
    t = torch.randint(3, (U,))
    item_emb = torch.randn(I, F, requires_grad=True)
    modality_emb = torch.randn(I, F, requires_grad=True)
    args = item_emb, modality_emb, 0.1, t, noise
    elbo, msi = diffusion.loss(x_start, *args)
    out = diffusion.denoiser(process.q_sample(x_start, t, noise), t)
    weight = process.elbo_weight[t]
    assert_close(elbo, weight * (out - x_start).square().sum(1) / I)
    expected = (out @ modality_emb - x_start @ item_emb).square().sum(1) / F
    assert_close(msi, expected)
    (elbo.mean() + msi.mean()).backward()
    assert item_emb.grad is None
    assert modality_emb.grad is None
    assert diffusion.denoiser.item_weight.grad.abs().sum() > 0


def test_msi_is_not_computed_at_weight_zero(make, x_start):
    _, msi = make().loss(x_start, None, None, 0)
    assert msi.equal(torch.zeros(U))


def test_loss_draws_all_steps(make, monkeypatch):
    diffusion, steps = make(), []
    monkeypatch.setattr(
        diffusion.diffusion,
        'q_sample',
        lambda x, t, noise: steps.append(t) or x,
    )
    diffusion.loss(torch.zeros(500, I), None, None, 0)
    assert steps[0].unique().tolist() == [0, 1, 2]


def test_reverse_process(make, x_start):
    diffusion, x = make(), x_start
    process, denoiser = diffusion.diffusion, diffusion.denoiser.eval()
    for t in (2, 1, 0):
        out = denoiser(x, torch.full((U,), t))
        x = (
            process.posterior_mean_coef1[t] * out
            + process.posterior_mean_coef2[t] * x
        )
    diffusion.train()
    assert_close(diffusion.sample(x_start), x)
    assert diffusion.denoiser.training


def test_sampling_noise(make, monkeypatch, x_start):
    diffusion, seen = make(), []
    monkeypatch.setattr(
        torch, 'randn_like', lambda x: seen.append(x) or torch.ones_like(x)
    )
    actual = diffusion.sample(x_start, 2, True)
    process, denoiser = diffusion.diffusion, diffusion.denoiser.eval()
    x = process.q_sample(x_start, torch.full((U,), 1), torch.ones(U, I))
    for t in (2, 1, 0):
        x = process.posterior_step(denoiser(x, torch.full((U,), t)), x, t)
        if t > 0:
            x = x + process.posterior_variance[t].sqrt()
    assert_close(actual, x)
    # To diffuse, and at every step but the last.
    assert len(seen) == 3
