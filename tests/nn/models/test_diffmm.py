import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.nn import CrossModalContrastiveLoss, DiffMM

U, I, D = 9, 7, 4
CHANNELS = {'image': 3, 'text.bert': 5}
OBSERVED = ('user', 'interacts', 'item')


@pytest.fixture
def features():
    return {m: torch.randn(I, c) for m, c in CHANNELS.items()}


@pytest.fixture
def edges(random_edges):
    out = {OBSERVED: random_edges(U, I, 20)}
    for m in CHANNELS:
        out['user', f'denoised_{m}', 'item'] = random_edges(U, I, U)
    return out


def with_gradients(model, features, edges):
    out, views = model(features, edges, return_views=True)
    parts = [x for part in (out, *views.values()) for x in part.values()]
    loss = sum((n + 1) * part.sin().sum() for n, part in enumerate(parts))
    return parts, torch.autograd.grad(loss, list(model.parameters()))


def joint(edge_index):
    out = torch.eye(U + I)
    out[edge_index[0], U + edge_index[1]] = 1
    out[U + edge_index[1], edge_index[0]] = 1
    scale = out.sum(1).rsqrt()
    return scale.view(-1, 1) * out * scale


@pytest.mark.parametrize('projection', ['linear', 'leaky_xavier'])
@pytest.mark.parametrize('num_layers', [0, 1, 3])
def test_equations(features, edges, num_layers, projection):
    weights = {'generated_weight': 0.3, 'residual_weight': 0.7}
    model = DiffMM(
        *(U, I, CHANNELS, D, num_layers), **weights, projection=projection
    )
    torch.nn.init.normal_(model.conv.modality_weight)
    adj = joint(edges[OBSERVED])
    user, item = model.user_emb.weight, model.item_emb.weight
    h, expected_views = 0, {}
    for w, m in zip(model.conv.modality_weight.softmax(0), CHANNELS):
        feature = F.normalize(model.projected(features)[m], dim=-1)
        generated = joint(edges['user', f'denoised_{m}', 'item'])
        p = adj @ torch.cat([user, feature])
        q = adj @ torch.cat([p[:U], item])
        g = generated @ torch.cat([user, item])
        h = h + w * (p + q + 0.3 * g)
        view = generated @ torch.cat([user, feature])
        expected_views[m] = sum(
            torch.matrix_power(adj, n) @ view for n in range(num_layers + 1)
        )
    z = sum(torch.matrix_power(adj, n) @ h for n in range(num_layers + 1))
    z = z + 0.7 * F.normalize(h, dim=-1)

    out, views = model(features, edges, return_views=True)
    assert_close(torch.cat([out['user'], out['item']]), z)
    assert_close(model(features, edges), out)
    assert_close(model.modality_views(features, edges), views)
    for m, view in views.items():
        assert_close(torch.cat([view['user'], view['item']]), expected_views[m])


def test_adj_forms(adj_form, features, edges):
    model = DiffMM(U, I, CHANNELS, D)
    expected = with_gradients(model, features, edges)
    forms = {key: adj_form(e, (U, I)) for key, e in edges.items()}
    assert_close(with_gradients(model, features, forms), expected)
    prepared = model.adjacency_dict(forms)
    assert_close(with_gradients(model, features, prepared), expected)


def test_compile(features, edges):
    torch.compiler.reset()
    model = DiffMM(U, I, CHANNELS, D)
    compiled = torch.compile(model, backend='aot_eager')
    actual = with_gradients(compiled, features, edges)
    assert_close(actual, with_gradients(model, features, edges))


def test_custom_names(features, edges):
    edge_type = ('customer', 'buys', 'product')
    model = DiffMM(U, I, CHANNELS, D, edge_type=edge_type)
    other = DiffMM(U, I, CHANNELS, D)
    other.load_state_dict(model.state_dict())
    out = model(features, dict(zip(model.edge_types, edges.values())))
    assert list(out) == ['customer', 'product']
    assert_close([*out.values()], [*other(features, edges).values()])


@pytest.mark.parametrize('name', ['keys', 'a.b', 'forward', '%2E', 'type'])
def test_any_modality_name(edges, name):
    model = DiffMM(U, I, {name: 2}, D)
    out = model({name: torch.randn(I, 2)}, {OBSERVED: edges[OBSERVED]})
    assert out['item'].size() == (I, D)


def test_recommend(features, edges):
    model = DiffMM(U, I, CHANNELS, D)
    out, observed = model(features, edges), edges[OBSERVED]
    score = (out['user'] @ out['item'].t()).detach()
    top = model.recommend(features, edges, 3)
    assert top.equal(score.topk(3).indices)
    score[observed[0], observed[1]] = -math.inf
    users = torch.tensor([4, 0, 4])
    value, index = score.topk(I)
    expected = index.masked_fill(value == -math.inf, -1)
    assert model.recommend(features, edges, I, observed).equal(expected)
    top = model.recommend(features, edges, I, observed, users)
    assert top.equal(expected[users])


def test_reset_parameters():
    model = DiffMM(U, I, CHANNELS, D)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.reset_parameters()
    after = model.state_dict()
    for name in before:
        same = name == 'conv.modality_weight'
        assert before[name].equal(after[name]) == same, name


def official(projection):
    out = {
        'uEmbeds': torch.randn(U, D),
        'iEmbeds': torch.randn(I, D),
        'modal_weight': torch.randn(2),
    }
    for m, c in CHANNELS.items():
        if projection == 'linear':
            out[f'{m}_trans.weight'] = torch.randn(D, c)
            out[f'{m}_trans.bias'] = torch.randn(D)
        else:
            out[f'{m}_trans'] = torch.randn(c, D)
    return out


@pytest.mark.parametrize('projection', ['linear', 'leaky_xavier'])
def test_load_official_state_dict(features, projection):
    model = DiffMM(U, I, CHANNELS, D, projection=projection)
    state = official(projection)
    model.load_official_state_dict(state)
    assert model.user_emb.weight.equal(state['uEmbeds'])
    assert model.item_emb.weight.equal(state['iEmbeds'])
    assert model.conv.modality_weight.equal(state['modal_weight'])
    for m, x in features.items():
        if projection == 'linear':
            out = x @ state[f'{m}_trans.weight'].t() + state[f'{m}_trans.bias']
        else:
            out = F.leaky_relu(x @ state[f'{m}_trans'], 0.2)
        assert_close(model.projected(features)[m], out)

    for bad in (
        {k: v for k, v in state.items() if k != 'uEmbeds'},
        {**state, 'other': torch.zeros(1)},
        {**state, 'iEmbeds': torch.zeros(I, D + 1)},
    ):
        with pytest.raises(ValueError, match="'state_dict'"):
            model.load_official_state_dict(bad)


def batch():
    users, items = torch.tensor([0, 3, 3]), torch.tensor([1, 0, 5])
    return torch.stack([users, items]), torch.tensor([2, 6, 6])


def test_loss(features, edges, monkeypatch):
    model = DiffMM(U, I, CHANNELS, D)
    edge_label_index, negative = batch()
    weights = {'reg_weight': 0.1, 'ssl_weight': 0.5, 'temperature': 0.3}
    loss = model.loss(features, edges, *batch(), **weights)
    out, views = model(features, edges, return_views=True)
    score = out['user'] @ out['item'].t()
    user, item = edge_label_index
    margin = score[user, item] - score[user, negative]
    assert_close(loss['bpr'], F.softplus(-margin).mean())
    assert_close(loss['reg'], 0.1 * model.reg_loss())
    contrast = CrossModalContrastiveLoss(0.3, 'main')
    total = sum(
        contrast({m: views[m][t] for m in views}, index, out[t])
        for t, index in (('user', user), ('item', item))
    )
    assert_close(loss['contrastive'], 0.5 * total)

    again = model.loss(features, edges, *batch(), **weights, num_candidates=U)
    assert_close(again, loss)
    half = model.objective(
        *(features, model.adjacency_dict(edges, prepare=False)),
        (user, item, negative),
        *(0.1, 0.5, contrast, torch.bfloat16),
    )
    assert half['bpr'].equal(loss['bpr'])
    assert not half['contrastive'].equal(loss['contrastive'])
    assert_close(half['contrastive'], loss['contrastive'], rtol=0.02, atol=0)

    monkeypatch.setattr(CrossModalContrastiveLoss, 'contrast', None)
    weights['ssl_weight'] = 0.0
    observed = {OBSERVED: edges[OBSERVED]}
    without = model.loss(features, observed, *batch(), **weights)
    assert float(without['contrastive']) == 0
    assert without['reg'].equal(loss['reg'])


@pytest.mark.parametrize('projection', ['linear', 'leaky_xavier'])
@pytest.mark.parametrize('dtype', [torch.half, torch.float, torch.double])
def test_standardized_features(features, projection, dtype):
    features = {m: (3 * x + 2).to(dtype) for m, x in features.items()}
    model, raw = (
        DiffMM(U, I, CHANNELS, D, projection=projection, standardize=s)
        for s in (True, False)
    )
    state = model.state_dict()
    raw.load_state_dict({k: state[k] for k in raw.state_dict()})
    names = state.keys() - raw.state_dict().keys()
    assert len(names) == 4 and all('standardization' in n for n in names)
    # Before they are set, buffers change nothing.
    for m, x in raw.projected(features).items():
        assert_close(model.projected(features)[m], x)
    model.fit_standardization(features)
    centered = {}
    for m, x in features.items():
        x = x.double() - x.double().mean(dim=0)
        centered[m] = (x / x.square().mean().sqrt()).float()
    out, expected = model.projected(features), raw.projected(centered)
    for m in CHANNELS:
        assert_close(out[m], expected[m], rtol=1e-4, atol=1e-5)

    def gradients(model, features):
        total = sum(x.sin().sum() for x in model.projected(features).values())
        return torch.autograd.grad(total, list(model.projections.parameters()))

    pairs = zip(gradients(model, features), gradients(raw, centered))
    for grad, other in pairs:
        assert_close(grad, other, rtol=1e-4, atol=1e-4)


def test_a_large_mean_cancels_in_low_precision(features):
    model = DiffMM(U, I, CHANNELS, D, standardize=True)
    shifted = {m: x + 300 for m, x in features.items()}
    model.fit_standardization(features)
    expected = model.projected(features)
    model.fit_standardization(shifted)
    with torch.autocast('cpu', torch.bfloat16):
        out = model.projected(shifted)
    for m in CHANNELS:
        assert_close(out[m], expected[m], rtol=1e-3, atol=1e-3)
