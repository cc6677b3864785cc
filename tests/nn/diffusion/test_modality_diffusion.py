import copy
import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.nn.diffusion import denoiser_epoch
from diffmm_geo.nn.diffusion.list_loss import list_loss
from diffmm_geo.sparse import CSR

U, I, F = 10, 8, 3
M = ('image', 'text')


def make(modalities=M, **kwargs):
    return ModalityDiffusion.paper(I, modalities, hidden_channels=5, **kwargs)


def test_part_of_a_modality(edge_index):
    diffusion = make()
    part = diffusion['text']
    assert part.denoiser is diffusion.denoisers['text']
    assert part.diffusion is diffusion.diffusion
    lists = CSR.from_edge_index(edge_index, (U, I))
    x, emb = lists.dense(torch.zeros(())), torch.randn(2, I, F)
    t, noise = torch.randint(5, (U,)), torch.randn(U, I)
    args = x, *emb, 0.1, t, noise
    diffusion.eval()
    for out, expected in zip(diffusion.loss('text', *args), part.loss(*args)):
        assert out.equal(expected)
    sum(diffusion.loss('text', *args)).sum().backward()
    assert diffusion.denoisers['image'].item_weight.grad is None
    assert diffusion.denoisers['text'].item_weight.grad.abs().sum() > 0
    args = x, 2, True
    torch.manual_seed(1)
    out = diffusion.sample('text', *args)
    torch.manual_seed(1)
    assert out.equal(part.sample(*args))


def test_state_dict():
    # Names of saved models.
    names = {name.rpartition('.')[0] for name in make().state_dict()}
    layers = ['', '.time_emb', '.time_lin', '.decoder.0']
    assert names == {'diffusion'} | {
        f'_denoisers.modality_{m}{layer}'
        for m in ('image', 'text')
        for layer in layers
    }


def changed(diffusion, change):
    r"""The modalities whose denoisers a function changes."""
    before = copy.deepcopy(diffusion.denoisers)
    change()
    return [
        m
        for m, denoiser in diffusion.denoisers.items()
        if not denoiser.item_weight.equal(before[m].item_weight)
    ]


def test_reset_parameters():
    diffusion = make()
    assert changed(diffusion, diffusion.reset_parameters) == list(M)


def test_train_epoch(edge_index, monkeypatch):
    diffusion = make()
    optimizer = torch.optim.SGD(diffusion.parameters(), lr=0.0)
    emb, steps, seen = torch.randn(I, F), [], []
    lists = CSR.from_edge_index(edge_index, (U, I))
    monkeypatch.setattr(
        denoiser_epoch,
        'list_loss',
        lambda part, x, *args: seen.append(x) or list_loss(part, x, *args),
    )
    args = optimizer, lists, emb, {'image': emb, 'text': emb}
    out = diffusion.train_epoch(
        *args, batch_size=3, on_step=lambda: steps.append(1)
    )
    assert list(out) == ['image', 'text']
    assert all(math.isfinite(v) and v > 0 for v in out.values())
    assert len(steps) == 4
    # Every user's row, once per modality.
    rows = torch.cat([x.dense(emb) for x in seen[::2]]).tolist()
    assert sorted(rows) == sorted(lists.dense(emb).tolist())


@pytest.mark.parametrize('normalize', [False, True])
def test_autocast_uses_the_weights_of_each_step(edge_index, normalize):
    r"""Autocast caches the weights that it casts."""
    lists = CSR.from_edge_index(edge_index, (U, I), coalesce=True)
    emb = torch.randn(I, F)
    weights = []
    for cache_enabled in (True, False):
        torch.manual_seed(0)
        options = {'hidden_channels': [3, 4], 'normalize': normalize}
        diffusion = ModalityDiffusion(I, ['text'], **options)
        optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-1)
        with torch.autocast('cpu', torch.bfloat16, cache_enabled=cache_enabled):
            for _ in range(3):
                args = optimizer, lists, emb, {'text': emb}
                diffusion.train_epoch(*args, batch_size=4)
        weights.append(diffusion.state_dict())
    assert_close(*weights, rtol=0, atol=0)


def test_train_epoch_of_some_modalities(edge_index):
    diffusion, emb = make(), torch.randn(I, F)
    optimizer = torch.optim.SGD(diffusion.parameters(), lr=0.1)
    lists = CSR.from_edge_index(edge_index, (U, I))
    args = optimizer, lists, emb, {'text': emb}
    assert changed(diffusion, lambda: diffusion.train_epoch(*args)) == ['text']
