r"""Denoisers that see the features of their items, and items without observed
interactions.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.nn import Denoiser, MaskedDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion.denoiser import FEATURE_SCALE
from diffmm_geo.nn.diffusion.list_loss import list_loss
from diffmm_geo.sparse import CSR

U, I, C = 10, 8, 3
# No user has the last item.
OBSERVED = torch.arange(I) < I - 1


def standardized(x):
    r"""Rows of zeros are missing, and the others have unit length."""
    out, there = torch.zeros_like(x), x.abs().sum(dim=1) > 0
    std, mean = torch.std_mean(x[there], dim=0, correction=0)
    out[there] = F.normalize((x[there] - mean) / std)
    return out


@pytest.fixture
def lists(edge_index):
    return CSR.from_edge_index(edge_index, (U, I), coalesce=True)


@pytest.fixture
def masked(make):
    diffusion = make(MaskedDiffusion(3), feature_channels=C).double()
    diffusion.denoiser.set_features(torch.randn(I, C), OBSERVED)
    return diffusion


def test_tables_equal_the_equations(lists):
    denoiser = Denoiser(I, [4, 6], dropout=0.0, feature_channels=-1)
    x = 100 + torch.randn(I, C).double()
    x[2] = 0
    denoiser.set_features(x, OBSERVED)
    state = denoiser.state_dict()
    own, last = state['item_weight'], state['decoder.1.weight']
    for weight in (own, last):
        assert (weight.abs().sum(dim=1) > 0).equal(OBSERVED)
    s_x = FEATURE_SCALE * standardized(x).float()
    first = own + s_x @ state['feature_in']
    last = last + s_x @ state['feature_out']
    index, value = torch.tensor([5, 2]), torch.rand(lists.nnz)
    weighted = torch.zeros(U, I).index_put((lists.row, lists.col), value)
    assert_close(denoiser.first_weight, first)
    assert_close(denoiser.last_weight(), last)
    assert_close(denoiser.last_weight(index), last[index])
    assert_close(denoiser.first(lists, value), weighted @ first)
    # The output is that of a denoiser with these tables.
    plain = Denoiser(I, [4, 6], dropout=0.0)
    rest = {k: v for k, v in state.items() if k in plain.state_dict()}
    tables = {'item_weight': first, 'decoder.1.weight': last}
    plain.load_state_dict({**rest, **tables})
    assert_close(denoiser(weighted, 1), plain(weighted, 1))


@pytest.mark.parametrize('form', ['dense', 'sampled'])
def test_loss_of_lists_agrees_with_plain(masked, monkeypatch, lists, form):
    # All other observed items are sampled, so that both forms are exact.
    x = lists.dense(torch.zeros((), dtype=torch.double))
    emb, t = torch.randn(2, I, C).double(), torch.randint(3, (U,))
    noise = torch.rand(U, I).double()
    denoiser = masked.denoiser

    def run(loss):
        out = torch.stack(loss)
        weights = list(masked.parameters())
        return out, *torch.autograd.grad(out.sum(), weights)

    expected = run(masked.loss(x, *emb, 0.1, t, noise))
    drawn = noise[lists.row, lists.col]
    monkeypatch.setattr(torch, 'rand', lambda *args, **kwargs: drawn)
    out = run(list_loss(masked, lists, *emb, 0.1, form, t))
    for got, exact in zip(out, expected):
        assert_close(got, exact)
    # Of items that no user has, training does not know that nobody wants them.
    grads = dict(zip(dict(masked.named_parameters()), out[1:]))
    for name in ('item_weight', 'decoder.0.weight', 'decoder.0.bias'):
        grad = grads[f'denoiser.{name}']
        assert (grad[~OBSERVED] == 0).all() and (grad[OBSERVED] != 0).any()
    assert (denoiser.item_weight[~OBSERVED] == 0).all()


def test_unobserved_items_are_as_likely_as_estimated(masked, lists):
    diffusion = ModalityDiffusion(I, ['image'], hidden_channels=5).double()
    features = {'image': torch.randn(I, C)}
    diffusion.set_features(features, OBSERVED)
    diffusion.place_unobserved(lists)
    users = lists.rowptr.diff() > 0
    score = diffusion.sample('image', lists.dense(torch.zeros(()).double()))
    share = score.exp() / score[:, OBSERVED].exp().sum(dim=1, keepdim=True)
    # On average over users; the softmax is over observed items.
    degree = torch.bincount(lists.col, minlength=I)
    once, none = int((degree == 1).sum()), int((~OBSERVED).sum())
    estimate = min(2 * max(1, once) / (lists.nnz * none), 1 / I)
    assert_close(float(share[users][:, -1].mean()), estimate)


def test_new_items_are_known_by_their_features(planted):
    data = planted()
    edges = data['user', 'interacts', 'item'].edge_index
    lists = CSR.from_edge_index(edges, (32, 24))
    x, emb = data['item'].x_image, torch.zeros(24, 1)
    diffusion = ModalityDiffusion(24, ['image'], hidden_channels=16)
    diffusion.set_features({'image': x})
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-2)
    for _ in range(40):
        args = optimizer, lists, emb, {'image': emb}
        diffusion.train_epoch(*args, batch_size=8)
    new = diffusion.with_new_items({'image': 3 * x[4:8] - 2 * x[:4]}, lists)
    assert diffusion.num_items == 24 and new.num_items == 28
    row = lists.dense(emb)
    score = new.sample('image', F.pad(row, (0, 4)))
    known = diffusion.sample('image', row)
    assert_close(score[:, :24].log_softmax(dim=1), known)
    # New item n belongs to community n, and user u to community u % 4.
    best = score[:, 24:].argmax(dim=1)
    assert best.equal(torch.arange(32) % 4)


def bad_features():
    x = torch.randn(I, C)
    for value in (
        torch.full((I, C), torch.nan),
        torch.randn(I + 1, C),
        torch.randn(I, C + 1),
        x.long(),
    ):
        yield "'feature_dict\\['image'\\]'", {'image': value}, None
    yield "'feature_dict'", {'text': x}, None
    for observed in (OBSERVED.float(), OBSERVED[1:], [True] * I):
        yield "'observed'", {'image': x}, observed


@pytest.mark.parametrize(('name', 'features', 'observed'), list(bad_features()))
def test_bad_features_change_nothing(name, features, observed):
    diffusion = ModalityDiffusion(I, ['image'], hidden_channels=5)
    diffusion.set_features({'image': torch.randn(I, C)})
    before = {k: v.clone() for k, v in diffusion.state_dict().items()}
    with pytest.raises(ValueError, match=name):
        diffusion.set_features(features, observed)
    assert_close(diffusion.state_dict(), before, rtol=0, atol=0)


def test_denoisers_without_features(lists):
    features = {'image': torch.randn(I, C)}
    paper = ModalityDiffusion.paper(I, ['image'], hidden_channels=5)
    with pytest.raises(ValueError, match="'feature_channels'"):
        paper.set_features(features)
    unset = ModalityDiffusion(I, ['image'], hidden_channels=5)
    assert unset.takes_features and not unset.has_features
    with pytest.raises(ValueError, match="'diffusion' needs features"):
        unset.with_new_items(features, lists)
