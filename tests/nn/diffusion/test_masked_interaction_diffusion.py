import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import (
    GaussianDiffusion,
    MaskedDiffusion,
    MaskedInteractionDiffusion,
    ModalityDiffusion,
)
from diffmm_geo.nn.diffusion.list_loss import list_loss
from diffmm_geo.sparse import CSR
from tests.wrong_values import wrong_values

U, I, F = 10, 8, 3


def make(num_steps=3, **kwargs):
    kwargs = {'hidden_channels': 5, **kwargs}
    diffusion = MaskedInteractionDiffusion(
        I, MaskedDiffusion(num_steps), **kwargs
    )
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return diffusion


@pytest.fixture
def lists(edge_index):
    # The last user has no interactions.
    edges = edge_index[:, edge_index[0] < U - 1]
    return CSR.from_edge_index(edges, (U, I), coalesce=True)


@pytest.fixture
def x_start(lists):
    return lists.dense(torch.zeros(()))


def test_loss_equations(x_start):
    diffusion, emb = make(), torch.randn(2, I, F)
    t, noise = torch.randint(3, (U,)), torch.rand(U, I)
    nll, msi = diffusion.loss(x_start, *emb, 0.1, t, noise)
    for u in range(U):
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


def test_no_gradient_flows_to_embeddings(x_start):
    diffusion, emb = make(), torch.randn(2, I, F, requires_grad=True)
    nll, msi = diffusion.loss(x_start, *emb)
    (nll.mean() + msi.mean()).backward()
    assert emb.grad is None
    for parameter in diffusion.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_users_count_the_same():
    # A user's loss is a mean, not a sum, over interactions.
    diffusion = make()
    for parameter in diffusion.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.zeros(2, I)
    x[0, 0], x[1, :6] = 1, 1
    nll, _ = diffusion.loss(x, None, None, 0)
    assert_close(nll, torch.full((2,), I).float().log())


@pytest.mark.parametrize('normalize', [False, True])
def test_scores_are_log_probabilities(x_start, normalize):
    diffusion = make(normalize=normalize, dropout=0.5)
    score = diffusion.sample(x_start)
    assert_close(score.exp().sum(dim=1), torch.ones(U))
    unit = torch.nn.functional.normalize(x_start, dim=1)
    expected = diffusion.denoiser.eval()(unit, 0).log_softmax(dim=1)
    assert_close(score, expected)
    diffusion.train()
    diffusion.sample(x_start)
    assert diffusion.denoiser.training


def test_sampling_steps_mask_first(x_start, monkeypatch):
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


# Equal to the plain form with the same masks.
@pytest.mark.parametrize('hidden_channels', [5, [4, 6]])
@pytest.mark.parametrize('form', ['auto', 'dense', 'gram', 'sampled'])
@pytest.mark.parametrize('msi_weight', [0.1, 0])
def test_list_loss_agrees_with_plain(
    lists, x_start, monkeypatch, hidden_channels, form, msi_weight
):
    diffusion = make(hidden_channels=hidden_channels).double()
    emb, t = torch.randn(2, I, F).double(), torch.randint(3, (U,))
    noise = torch.rand(U, I).double()
    scale = torch.rand(2, U).double()

    def run(loss):
        loss = torch.stack(loss)
        parameters = list(diffusion.parameters())
        return loss, *torch.autograd.grad((loss * scale).sum(), parameters)

    x = x_start.double()
    expected = run(diffusion.loss(x, *emb, msi_weight, t, noise))
    drawn = noise[lists.row, lists.col]
    monkeypatch.setattr(torch, 'rand', lambda *args, **kwargs: drawn)
    out = run(list_loss(diffusion, lists, *emb, msi_weight, form, t))
    for got, exact in zip(out, expected):
        assert_close(got, exact)


def test_dropout_of_lists_in_training(lists):
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


@pytest.mark.parametrize('exclude_observed', [False, True])
@pytest.mark.parametrize('candidates', [None, [6, 1, 4]])
def test_edges_are_the_top_items(lists, x_start, candidates, exclude_observed):
    diffusion = ModalityDiffusion(
        I, ['image'], MaskedDiffusion(), hidden_channels=5
    )
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter)
    score = diffusion.sample('image', x_start)
    chosen = list(range(I)) if candidates is None else candidates
    expected = []
    for u in range(U):
        items = [
            i for i in chosen if not (exclude_observed and x_start[u, i] > 0)
        ]
        items.sort(key=lambda i: -float(score[u, i]))
        expected += [[u, i] for i in items[:3]]
    options = {
        'candidates': None if candidates is None else torch.tensor(candidates),
        'exclude_observed': exclude_observed,
    }
    edges = torch.stack([lists.row, lists.col])
    for out in (
        diffusion.sample_edges('image', edges, U, 3, **options),
        diffusion['image'].sample_edges(edges, U, 3, **options),
    ):
        assert out.t().tolist() == expected


def test_learns_what_goes_together():
    # Even items go with even items, and each user misses one.
    torch.manual_seed(0)
    x = torch.zeros(40, I)
    for u in range(40):
        x[u, u % 2 :: 2] = 1
        x[u, (u % 2 + 2 * (u // 2)) % I] = 0
    edges = x.nonzero().t()
    diffusion = ModalityDiffusion(
        I, ['image'], MaskedDiffusion(), hidden_channels=8
    )
    emb = torch.zeros(I, 1)
    args = edges, 40, emb, {'image': emb}
    diffusion.fit(*args, 60, batch_size=8, lr=1e-2, msi_weight=0.0)
    user, item = diffusion.sample_edges(
        'image', edges, 40, exclude_observed=True
    )
    assert ((user - item) % 2 == 0).all()


def test_noise_is_not_supported(x_start):
    with pytest.raises(ValueError, match="'sampling_noise'.*one evaluation"):
        make().sample(x_start, 0, True)


@wrong_values(
    x_start=[torch.zeros(U, I + 1), torch.zeros(U, I).long()],
    item_emb=[torch.zeros(I + 1, F)],
    modality_emb=[torch.zeros(I, F + 1)],
    msi_weight=[-1.0],
    t=[torch.tensor([0, 3])],
)
def test_bad_loss(name, value):
    emb = torch.zeros(I, F)
    args = {
        'x_start': torch.zeros(U, I),
        'item_emb': emb,
        'modality_emb': emb,
        'msi_weight': 0.1,
    }
    make().loss(**args)
    with pytest.raises(ValueError, match=f"'{name}'"):
        make().loss(**{**args, name: value})


def test_msi_is_off_by_default(lists, x_start):
    emb = torch.randn(I, F)
    diffusion = ModalityDiffusion(
        I, ['image'], MaskedDiffusion(), hidden_channels=5
    )
    assert diffusion['image'].loss(x_start)[1].equal(torch.zeros(U))
    args = 'image', x_start, emb, emb
    assert diffusion.loss(*args)[1].equal(torch.zeros(U))
    assert diffusion.batch_loss('image', lists, emb, emb)[1].equal(
        torch.zeros(U)
    )
    assert diffusion.loss(*args, msi_weight=0.1)[1].sum() > 0


def test_bad_process():
    with pytest.raises(ValueError, match="'diffusion'.*MaskedDiffusion"):
        MaskedInteractionDiffusion(I, GaussianDiffusion())
    with pytest.raises(ValueError, match="'diffusion'.*GaussianDiffusion"):
        ModalityDiffusion(I, ['image'], torch.nn.Linear(1, 1))


def test_default_dropout():
    assert make().denoiser.dropout == 0
    assert make(dropout=0.2).denoiser.dropout == 0.2
    diffusion = ModalityDiffusion(I, ['image'], MaskedDiffusion())
    assert diffusion.denoisers['image'].dropout == 0
    assert ModalityDiffusion(I, ['image']).denoisers['image'].dropout == 0.5


def test_repr():
    assert repr(make()) == f'MaskedInteractionDiffusion({I})'
