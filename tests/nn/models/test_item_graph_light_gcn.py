import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.nn import ItemGraphLightGCN
from diffmm_geo.nn.modality_name import module_name
from tests.wrong_values import wrong_values

U, I, D, L = 9, 7, 4, 3
CHANNELS = {'image': 3, 'text.bert': 5}
OBSERVED = ('user', 'interacts', 'item')


@pytest.fixture
def features():
    return {m: torch.randn(I, c) for m, c in CHANNELS.items()}


@pytest.fixture
def graphs(random_edges):
    out = {OBSERVED: random_edges(U, I, 20)}
    for m in CHANNELS:
        edge_index = torch.randint(I, (2, 15)).unique(dim=1).contiguous()
        out['item', f'similar_{m}', 'item'] = edge_index
    return out


@pytest.fixture
def model(features):
    out = ItemGraphLightGCN(U, I, CHANNELS, D, L)
    torch.nn.init.normal_(out.user_emb.weight)
    torch.nn.init.normal_(out.item_emb.weight)
    return out.fit_features(features)


def normalized(edge_index, size):
    r"""The dense, normalized adjacency. Rows receive."""
    out = torch.zeros(size)
    out[edge_index[0], edge_index[1]] = 1
    scale = [out.sum(d, keepdim=True).clamp(min=1).rsqrt() for d in (0, 1)]
    return scale[0] * out * scale[1]


def dense_views(model, features, graphs):
    user, item = model.user_emb.weight, model.item_emb.weight
    r = normalized(graphs[OBSERVED], (U, I))
    joint = torch.zeros(U + I, U + I)
    joint[:U, U:], joint[U:, :U] = r, r.t()
    x = torch.cat([user, item])
    z = sum(joint.matrix_power(n) @ x for n in range(L + 1)) / (L + 1)
    h_item = 0
    for m, x in features.items():
        x = (x - x.mean(0)) / x.std(0, correction=0) / x.size(1) ** 0.5
        name = module_name(m)
        gate = model.gates[name](model.projections[name](x)).sigmoid()
        edge_index = graphs['item', f'similar_{m}', 'item']
        to_item = normalized(edge_index.flip(0), (I, I))
        h_item = h_item + to_item @ (item * gate) / len(features)
    return z, torch.cat([r @ h_item, h_item])


@pytest.mark.parametrize('prepare', [None, False, True])
def test_equations(model, features, graphs, prepare):
    z, h = dense_views(model, features, graphs)
    if prepare is not None:
        graphs = model.adjacency_dict(graphs, prepare)
    out, views = model(features, graphs, return_views=True)
    assert_close(torch.cat(list(out.values())), z + h)
    assert_close(torch.cat(list(views['interactions'].values())), z)
    assert_close(torch.cat(list(views['similar'].values())), h)
    assert_close(model(features, graphs), out)


@pytest.mark.parametrize('objective', ['bpr', 'softmax'])
def test_loss(model, features, graphs, objective):
    z, h = dense_views(model, features, graphs)
    pos, neg = torch.tensor([[0, 4, 4], [1, 5, 2]]), torch.tensor([3, 0, 6])
    x = z + h
    user, i, j = x[pos[0]], x[U + pos[1]], x[U + neg]
    positive = (user * i).sum(1)
    if objective == 'bpr':
        expected = -F.logsigmoid(positive - (user * j).sum(1)).mean()
    else:
        neg = torch.tensor([3, 0, 6, 6])
        j = x[U + neg]
        score = torch.cat([positive[:, None], user @ j.t()], dim=1)
        expected = -score.log_softmax(dim=1)[:, 0].mean()

    def contrast(part, index):
        a, b = F.normalize(z[part]), F.normalize(h[part])
        return F.cross_entropy((a @ b.t() / 0.5)[index], index)

    ssl = contrast(slice(0, U), pos[0]) + contrast(slice(U, None), pos[1])
    norm = sum(part.square().sum() / len(part) for part in (user, i, j))
    loss = model.loss(
        features,
        graphs,
        pos,
        neg,
        objective=objective,
        reg_weight=0.3,
        ssl_weight=0.7,
        temperature=0.5,
    )
    assert list(loss) == [objective, 'reg', 'contrastive']
    assert_close(loss[objective], expected)
    assert_close(loss['reg'], 0.3 * norm)
    assert_close(loss['contrastive'], 0.7 * ssl)
    sum(loss.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    loss = model.loss(
        features, graphs, pos, neg, objective=objective, ssl_weight=0.0
    )
    assert loss['contrastive'] == 0.0


def test_scale_and_shift_do_not_matter(model, features, graphs):
    expected = model(features, graphs)
    other = {m: 1500.0 * x - 700.0 for m, x in features.items()}
    model.fit_features(other)
    assert_close(model(other, graphs), expected, rtol=1e-3, atol=1e-4)


def test_constant_and_missing_features(model, features, graphs):
    features['image'] = torch.full((I, 3), 1500.1)
    features['text.bert'][2] = 0.0
    model.fit_features(features)
    for x in model(features, graphs).values():
        assert x.isfinite().all()
    features['text.bert'].zero_()
    for x in model.fit_features(features)(features, graphs).values():
        assert x.isfinite().all()


def test_any_adj_form(model, features, graphs, adj_form):
    expected = model(features, graphs)
    forms = {
        t: adj_form(e, (U, I) if t == OBSERVED else (I, I))
        for t, e in graphs.items()
    }
    if any(type(x).__name__ == 'BipartiteAdj' for x in forms.values()):
        pytest.skip('already normalized, with self-loops')
    assert_close(model(features, forms), expected)


def test_recommend(model, features, graphs):
    out = model(features, graphs)
    score = out['user'] @ out['item'].t()
    score[tuple(graphs[OBSERVED])] = float('-inf')
    top = model.recommend(features, graphs, 2, graphs[OBSERVED])
    assert top.equal(score.topk(2).indices)


def test_new_items(model, features, graphs):
    r"""They get the embeddings of similar items."""
    before = model(features, graphs)
    larger = model.with_new_items(1)
    features = {m: torch.cat([x, x[:1]]) for m, x in features.items()}
    new = torch.tensor([[0, 3], [I, I]])
    for m in CHANNELS:
        t = ('item', f'similar_{m}', 'item')
        # Old items have the same neighbors as before.
        graphs[t] = torch.cat([graphs[t], new], dim=1)
    out = larger(features, graphs)
    assert out['item'].size() == (I + 1, D)
    assert out['item'][I].abs().sum() > 0
    assert before['item'].size(0) == I


@wrong_values(
    num_users=[0],
    num_items=[-1],
    embedding_dim=[0],
    num_layers=[-1],
    modality_channels=[{}, {'image': 0}],
    edge_type=[('user', 'item'), ('item', 'likes', 'item')],
)
def test_bad_arguments(name, value):
    valid = {'num_users': 3, 'num_items': 4, 'modality_channels': {'image': 2}}
    with pytest.raises(ValueError, match=f"'{name}"):
        ItemGraphLightGCN(**{**valid, name: value})


def test_bad_inputs(model, features, graphs):
    similar = ('item', 'similar_image', 'item')
    with pytest.raises(ValueError, match='edge_index_dict'):
        model(features, {OBSERVED: graphs[OBSERVED]})
    with pytest.raises(ValueError, match='similar_image'):
        model(features, {**graphs, similar: torch.tensor([[0], [I]])})
    with pytest.raises(ValueError, match='feature_dict'):
        model({'image': features['image']}, graphs)
    with pytest.raises(ValueError, match='feature_dict'):
        model.fit_features({**features, 'image': torch.randn(I, 2)})
    pos = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match='neg_item'):
        model.loss(features, graphs, pos, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match='neg_item'):
        model.loss(
            features, graphs, pos, torch.tensor([I]), objective='softmax'
        )
    for name, value in {
        'objective': 'mse',
        'reg_weight': -1.0,
        'ssl_weight': -1.0,
        'temperature': 0.0,
        'num_candidates': 0,
    }.items():
        with pytest.raises(ValueError, match=f"'{name}'"):
            model.loss(features, graphs, pos, pos[1], **{name: value})
