import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.ops.row_streams import RowStreams, normal_

SIZES = [5, 0, 40, 19]
CPU = torch.device('cpu')


def streams(blocks=slice(None)):
    seeds = [3, 1, 4, 2][blocks]
    return RowStreams.from_seeds(seeds, SIZES[blocks], 4, sum(SIZES), CPU)


def rows(blocks):
    start = sum(SIZES[: blocks.start])
    return slice(start, start + sum(SIZES[blocks]))


def draw(s):
    num_rows = sum(s.sizes)
    out = [s.randint(5, CPU), s.normal_(torch.empty(num_rows, 33))]
    return [*out, dropout(torch.ones(num_rows, 7), 0.5, s)]


@pytest.mark.parametrize('blocks', [slice(0, 2), slice(2, 3), slice(2, 4)])
def test_a_block_draws_the_same_by_itself(blocks):
    for whole, part in zip(draw(streams()), draw(streams(blocks))):
        assert part.equal(whole[rows(blocks)])


def test_laws():
    many = RowStreams.from_seeds(range(8), [2000] * 8, 8, 16000, CPU)
    steps, noise = many.randint(4, CPU), many.normal_(torch.empty(16000, 20))
    kept = dropout(torch.ones(16000, 20), 0.25, many)
    assert_close(
        steps.bincount() / 16000, torch.full((4,), 0.25), atol=0.02, rtol=0
    )
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float((kept == 0).double().mean()) - 0.25) < 0.01
    # Blocks do not repeat each other.
    assert noise.unique(dim=0).size(0) == 16000


def test_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    draw(streams())
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(0)
    x = normal_(torch.empty(3, 4), None)
    torch.manual_seed(0)
    assert x.equal(torch.randn(3, 4))


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('form', ['auto', 'dense', 'gram', 'sampled'])
def test_loss_of_blocks(form, normalize, monkeypatch):
    # So that samples differ from all there is.
    module = 'diffmm_geo.nn.diffusion.modality_diffusion'
    monkeypatch.setattr(f'{module}.NUM_NOISES', 16)
    monkeypatch.setattr(f'{module}.NUM_SAMPLES', 20)
    diffusion = ModalityDiffusion(
        30, ['a'], hidden_channels=4, normalize=normalize
    ).double()
    user, item = (torch.rand(sum(SIZES), 30) < 0.2).nonzero().t()
    lists = ItemLists.from_edge_index(torch.stack([user, item]), sum(SIZES))
    emb = torch.randn(2, 30, 6).double()

    def loss(blocks):
        diffusion.zero_grad()
        chosen = lists.take(torch.arange(sum(SIZES))[rows(blocks)])
        elbo, msi = diffusion.batch_loss(
            'a', chosen, *emb, form=form, streams=streams(blocks)
        )
        (elbo.sum() + msi.sum()).backward()
        grads = [p.grad.clone() for p in diffusion.parameters()]
        return torch.stack([elbo, msi]).detach(), grads

    before = torch.get_rng_state()
    whole, grads = loss(slice(0, 4))
    parts = [loss(slice(0, 1)), loss(slice(1, 3)), loss(slice(3, 4))]
    assert_close(torch.cat([x for x, _ in parts], dim=1), whole)
    for expected, *actual in zip(grads, *(g for _, g in parts)):
        assert_close(sum(actual), expected)
    assert torch.get_rng_state().equal(before)


def test_is_the_loss_of_its_noise():
    diffusion = ModalityDiffusion(30, ['a'], hidden_channels=4).eval()
    x_start = (torch.rand(sum(SIZES), 30) < 0.2).float()
    lists = ItemLists.from_edge_index(x_start.nonzero().t(), sum(SIZES))
    emb = torch.randn(2, 30, 6)
    actual = diffusion.batch_loss(
        'a', lists, *emb, form='dense', streams=streams()
    )
    again = streams()
    t, noise = again.randint(5, CPU), again.normal_(torch.empty_like(x_start))
    assert_close(actual, diffusion.loss('a', x_start, *emb, t=t, noise=noise))
