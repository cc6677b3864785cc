import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import GaussianDiffusion

BUFFERS = [
    'betas',
    'alphas_cumprod',
    'sqrt_alphas_cumprod',
    'sqrt_one_minus_alphas_cumprod',
    'posterior_variance',
    'posterior_log_variance_clipped',
    'posterior_mean_coef1',
    'posterior_mean_coef2',
    'elbo_weight',
]


@pytest.mark.parametrize(
    'args',
    [
        *[(5, 0.1, 1e-4, 0.02), (20, 1.0, 1e-3, 0.9), (2, 0.5, 0.1, 0.1)],
        (1, 0.1, 1e-4, 0.02),
    ],
)
def test_schedule(args):
    num_steps, scale, low, high = args
    process = GaussianDiffusion(*args)
    share = [t / max(num_steps - 1, 1) for t in range(num_steps)]
    noise = [scale * (low + x * (high - low)) for x in share]
    betas = [1e-4]
    for a, b in zip(noise, noise[1:]):
        betas.append(min(1 - (1 - b) / (1 - a), 0.999))
    bars = [math.prod(1 - b for b in betas[: t + 1]) for t in range(num_steps)]
    snr = [bar / (1 - bar) for bar in bars]
    steps = list(zip(betas, [1.0, *bars], bars))
    expected = {
        'betas': betas,
        'alphas_cumprod': bars,
        'elbo_weight': [1.0] + [a - b for a, b in zip(snr, snr[1:])],
        'posterior_variance': [b * (1 - p) / (1 - c) for b, p, c in steps],
        'posterior_mean_coef1': [b * p**0.5 / (1 - c) for b, p, c in steps],
        'posterior_mean_coef2': [
            (1 - p) * (1 - b) ** 0.5 / (1 - c) for b, p, c in steps
        ],
    }
    for name, values in expected.items():
        actual = getattr(process, name)
        assert_close(actual, torch.tensor(values), rtol=1e-4, atol=1e-7)
    assert sorted(process.state_dict()) == sorted(BUFFERS)
    for buffer in process.state_dict().values():
        assert buffer.size() == (num_steps,) and buffer.isfinite().all()


def test_posterior_step():
    process = GaussianDiffusion(4, 1.0, 1e-3, 0.5)
    x_start, x_t, noise = torch.randn(3, 5, 6)
    t = torch.tensor([0, 3, 0, 1, 2])
    mean = process.posterior_step(x_start, x_t, t)
    coef1, coef2, variance = (
        getattr(process, f'posterior_{name}')[t].view(-1, 1)
        for name in ('mean_coef1', 'mean_coef2', 'variance')
    )
    assert_close(mean, coef1 * x_start + coef2 * x_t)
    out = process.posterior_step(x_start, x_t, t, noise)
    assert_close(out, mean + variance.sqrt() * noise)
    # The last step is the prediction, without noise.
    assert_close(out[[0, 2]], x_start[[0, 2]])
    for n, step in enumerate(t.tolist()):  # One step for all rows.
        for single in (step, t[n : n + 1]):
            alike = process.posterior_step(x_start, x_t, single, noise)
            assert alike[n].equal(out[n])


def test_q_sample():
    process = GaussianDiffusion(20, 1.0, 1e-3, 0.5)
    x_start, noise = torch.randn(6, 5), torch.randn(6, 5)
    t = torch.tensor([0, 3, 3, 19, 1, 7])
    out = process.q_sample(x_start, t, noise)
    bar = process.alphas_cumprod[t].view(-1, 1)
    assert_close(out, bar.sqrt() * x_start + (1 - bar).sqrt() * noise)
    assert process.q_sample(x_start.double(), t).dtype == torch.double


def test_q_sample_draws_standard_normal_noise():
    process = GaussianDiffusion(5, 1.0, 1e-3, 0.5)
    out = process.q_sample(torch.zeros(500, 100), torch.full((500,), 4))
    assert_close(out.mean(), torch.tensor(0.0), atol=0.02, rtol=0)
    expected = process.sqrt_one_minus_alphas_cumprod[4]
    assert_close(out.std(), expected, atol=0.02, rtol=0)
