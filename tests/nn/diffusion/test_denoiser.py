import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.nn import Denoiser

I, B = 7, 5


def official(hidden, time_channels=10):
    encoder, decoder = list(reversed(hidden)), [*hidden, I]
    sizes = {'emb_layer': (time_channels, time_channels)}
    ins = [I + time_channels, *encoder]
    for n in range(len(ins) - 1):
        sizes[f'in_layers.{n}'] = (ins[n], ins[n + 1])
    for n in range(len(decoder) - 1):
        sizes[f'out_layers.{n}'] = (decoder[n], decoder[n + 1])
    out = {}
    for name, (i, o) in sizes.items():
        out[f'{name}.weight'] = torch.randn(o, i) / math.sqrt(i)
        out[f'{name}.bias'] = torch.randn(o)
    return out


def reference(state, x, t, time_channels):
    r"""The layers as the authors have them, on a concatenated input."""

    def lin(name, h):
        return F.linear(h, state[f'{name}.weight'], state[f'{name}.bias'])

    half = time_channels // 2
    freq = torch.tensor([10000 ** (-n / half) for n in range(half)])
    angle = t.view(-1, 1) * freq
    emb = torch.cat([angle.cos(), angle.sin()], dim=1)
    if time_channels % 2 == 1:
        emb = torch.cat([emb, torch.zeros(len(t), 1)], dim=1)
    h = torch.cat([x, lin('emb_layer', emb)], dim=1)
    for prefix in ('in_layers', 'out_layers'):
        count = sum(k.startswith(prefix) for k in state) // 2
        for n in range(count):
            h = lin(f'{prefix}.{n}', h)
            if prefix == 'in_layers' or n < count - 1:
                h = h.tanh()
    return h


@pytest.mark.parametrize('hidden', [[6], [4, 6], [3, 4, 5]])
@pytest.mark.parametrize('time_channels', [10, 5, 2])
@pytest.mark.parametrize('normalize', [False, True])
def test_denoiser(hidden, time_channels, normalize):
    denoiser = Denoiser(I, hidden, time_channels, normalize=normalize).eval()
    state = official(hidden, time_channels)
    denoiser.load_official_state_dict(state)
    x, t = torch.randn(B, I), torch.tensor([0, 1, 2, 3, 4])
    expected = F.normalize(x, dim=-1) if normalize else x
    expected = reference(state, expected, t, time_channels)
    assert_close(denoiser(x, t), expected)
    # One step for all rows.
    for step in (3, torch.tensor([3])):
        assert_close(denoiser(x, step), denoiser(x, torch.full((B,), 3)))


def test_dropout_in_training_only():
    denoiser = Denoiser(I, 6, dropout=0.5)
    x, t = torch.ones(400, I), torch.zeros(400).long()
    seen = []
    denoiser.hidden = lambda z, t: seen.append(z) or torch.zeros(400, 6)
    torch.nn.init.eye_(denoiser.item_weight)
    denoiser(x, t)
    denoiser.eval()(x, t)
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (seen[0] == 0).float().mean() < 0.6
    assert seen[1].equal(torch.ones(400, 6))


def test_initialization():
    # Both parts of the first layer as the one Xavier layer that they are.
    denoiser = Denoiser(500, 300, 100)
    std = math.sqrt(2 / (500 + 100 + 300))
    for weight in (denoiser.item_weight, denoiser.time_lin.weight):
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.05)


def test_bad_official_state_dict():
    state = official([4, 6])
    for bad in (
        {},
        {k: v for k, v in state.items() if k != 'out_layers.1.bias'},
        {**state, 'other.weight': torch.zeros(1)},
        official([6, 4]),
    ):
        with pytest.raises(ValueError, match="'state_dict'"):
            Denoiser(I, [4, 6]).load_official_state_dict(bad)
