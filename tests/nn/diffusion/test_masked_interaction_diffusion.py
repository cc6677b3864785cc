from functools import partial

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion.list_loss import list_loss
from diffmm_geo.sparse import CSR

U, I, F = 10, 8, 3


@pytest.fixture
def make(make):
    return partial(make, MaskedDiffusion(3))


def of_modality(size):
    process = MaskedDiffusion()
    return ModalityDiffusion(I, ['image'], process, hidden_channels=size)


@pytest.fixture
def lists(edge_index):
    return CSR.from_edge_index(edge_index, (U, I), coalesce=True)


def test_loss_equations(make, x_start):
    diffusion, emb = make(), torch.randn(2, I, F)
    t, noise = torch.randint(3, (U,)), torch.rand(U, I)
    nll, msi = diffusion.loss(x_start, *emb, 0.1, t, noise)
    for u in range(U):  # The last user has no interactions.
        own = x_start[u].nonzero().view(-1)
        if own.numel() == 0:
            assert float(nll[u]) == float(msi[u]) == 0
            continue
        masked = (t[u] + 1) / 4
        x_t = x_start[u] * (noise[u] >= masked)
        x_t = x_t / (x_t.norm() * (1 - masked).sqrt()).clamp(min=1e-9)
        out = diffusion.denoiser(x_t[None], t[u : u + 1])[0]
        prob = out.exp() / out.exp().sum()
        assert_close(nll[u], -prob[own].log().mean())
        gap = own.numel() * prob @ emb[1] - x_start[u] @ emb[0]
        assert_close(msi[u], gap.square().mean())


def test_no_gradient_flows_to_embeddings(make, x_start):
    diffusion, emb = make(), torch.randn(2, I, F, requires_grad=True)
    nll, msi = diffusion.loss(x_start, *emb)
    (nll.mean() + msi.mean()).backward()
    assert emb.grad is None
    for parameter in diffusion.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize('normalize', [False, True])
def test_scores_are_log_probabilities(make, x_start, normalize):
    diffusion = make(normalize=normalize, dropout=0.5)
    score = diffusion.sample(x_start)
    assert_close(score.exp().sum(dim=1), torch.ones(U))
    unit = torch.nn.functional.normalize(x_start, dim=1)
    expected = diffusion.denoiser.eval()(unit, 0).log_softmax(dim=1)
    assert_close(score, expected)
    diffusion.train()
    diffusion.sample(x_start)
    assert diffusion.denoiser.training


def test_sampling_steps_mask_first(make, x_start, monkeypatch):
    diffusion, steps = make(), []
    mask = diffusion.diffusion.q_sample
    monkeypatch.setattr(
        diffusion.diffusion,
        'q_sample',
        lambda x, t: steps.append(t) or mask(x, t, torch.zeros_like(x)),
    )
    out = diffusion.sample(x_start, 2)
    assert steps == [1]
    empty = diffusion.denoiser(torch.zeros(U, I), 1).log_softmax(dim=1)
    assert_close(out, empty)


def test_dropout_of_lists_in_training(make, lists):
    diffusion = make(dropout=0.5)
    process, empty = diffusion.diffusion, torch.empty(I, 0)
    process.mask_prob.zero_()
    t = torch.zeros(U).long()
    args = lists, empty, empty, 0, 'auto', t
    losses = [list_loss(diffusion, *args)[0] for _ in range(2)]
    assert not losses[0].equal(losses[1])
    diffusion.eval()
    losses = [list_loss(diffusion, *args)[0] for _ in range(2)]
    assert losses[0].equal(losses[1])


def test_learns_what_goes_together():
    # Even items go with even items, and each user misses one.
    torch.manual_seed(0)
    x = torch.zeros(40, I)
    for u in range(40):
        x[u, u % 2 :: 2] = 1
        x[u, (u % 2 + 2 * (u // 2)) % I] = 0
    edges, emb = x.nonzero().t(), torch.zeros(I, 1)
    diffusion = of_modality(8)
    lists = CSR.from_edge_index(edges, (40, I))
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-2)
    for _ in range(60):
        args = optimizer, lists, emb, {'image': emb}
        diffusion.train_epoch(*args, batch_size=8)
    options = {'exclude_observed': True}
    user, item = diffusion.sample_edges('image', edges, 40, **options)
    assert ((user - item) % 2 == 0).all()


def test_msi_is_off_by_default(lists, x_start):
    diffusion, emb, none = of_modality(5), torch.randn(I, F), torch.zeros(U)
    assert diffusion['image'].loss(x_start)[1].equal(none)
    assert diffusion.loss('image', x_start, emb, emb)[1].equal(none)
    assert diffusion.batch_loss('image', lists, emb, emb)[1].equal(none)
    assert diffusion.loss('image', x_start, emb, emb, 0.1)[1].sum() > 0


def test_default_dropout(make):
    assert make().denoiser.dropout == 0
    assert make(dropout=0.2).denoiser.dropout == 0.2
    assert ModalityDiffusion(I, ['image']).denoisers['image'].dropout == 0
    paper = ModalityDiffusion.paper(I, ['image']).denoisers['image']
    assert paper.dropout == 0.5
