r"""Names, sizes and types at their limits, compared with the plain equations on
the joint graph.
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import CrossModalContrastiveLoss, DiffMM, ModalityDiffusion
from diffmm_geo.nn.diffusion import FORMS
from diffmm_geo.sparse import CSR
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.transforms import ModalityAwareGraphDiffusion

OBSERVED = ('user', 'interacts', 'item')
HALF = (torch.half, torch.bfloat16)
DTYPES = (torch.double, torch.float, *HALF)
TOLERANCE = {
    torch.double: {'rtol': 1e-10, 'atol': 1e-12},
    torch.float: {'rtol': 1e-4, 'atol': 1e-5},
    torch.half: {'rtol': 1e-2, 'atol': 1e-2},
    torch.bfloat16: {'rtol': 5e-2, 'atol': 5e-2},
}


def joint_adj(edge_index, num_users, num_items):
    size = num_users + num_items
    adj = torch.zeros(size, size, dtype=torch.double)
    adj[edge_index[0], num_users + edge_index[1]] = 1.0
    adj = adj + adj.t() + torch.eye(size, dtype=torch.double)
    scale = adj.sum(dim=1).rsqrt()
    return scale.view(-1, 1) * adj * scale


def expected_output(model, feature_dict, edge_index_dict):
    r"""The paper's equations, in double precision."""
    weights = {k: x.double() for k, x in model.state_dict().items()}
    user, item = weights['user_emb.weight'], weights['item_emb.weight']
    adj = joint_adj(edge_index_dict[OBSERVED], *model.size)
    share = weights['conv.modality_weight'].softmax(dim=0)
    emb = torch.cat([user, item])
    h = torch.zeros_like(emb)
    modules = model.projections.values()
    for w, m, module in zip(share, model.modalities, modules):
        x = feature_dict[m].double() @ module.weight.double().t()
        x = F.normalize(x + module.bias.double(), dim=-1)
        p = adj @ torch.cat([user, x])
        q = adj @ torch.cat([p[: model.num_users], item])
        generated = edge_index_dict['user', f'denoised_{m}', 'item']
        graph = joint_adj(generated, *model.size)
        h = h + w * (p + q + model.conv.generated_weight * (graph @ emb))
    out = z = h
    for _ in range(model.num_layers):
        z = adj @ z
        out = out + z
    out = out + model.residual_weight * F.normalize(h, dim=-1)
    return out.split(model.size)


def make(num_users, num_items, num_edges, num_modalities, dtype):
    channels = {f'm{n}': 2 + n for n in range(num_modalities)}
    model = DiffMM(num_users, num_items, channels, 6, num_layers=2).to(dtype)
    features = {
        m: torch.randn(num_items, c).to(dtype) for m, c in channels.items()
    }
    pairs = torch.randperm(num_users * num_items)[:num_edges]
    graphs = {OBSERVED: torch.stack([pairs // num_items, pairs % num_items])}
    for m in channels:
        item = torch.randint(num_items, (num_users,))
        edge_index = torch.stack([torch.arange(num_users), item])
        graphs['user', f'denoised_{m}', 'item'] = edge_index
    return model, features, graphs


SIZES = {
    'one user': (1, 7, 3),
    'one item': (7, 1, 3),
    'one of each': (1, 1, 1),
    'one of each, no interaction': (1, 1, 0),
    'no interaction': (5, 4, 0),
    'all interactions': (5, 4, 20),
}


@pytest.mark.parametrize(
    ('size', 'num_modalities', 'dtype'),
    [
        *[(size, 2, torch.float) for size in SIZES.values()],
        *[((12, 9, 40), 2, dtype) for dtype in DTYPES],
        *[((6, 5, 9), number, torch.float) for number in (1, 20)],
    ],
)
@pytest.mark.parametrize('is_zero', [False, True])
def test_model(size, num_modalities, dtype, is_zero):
    model, features, graphs = make(*size, num_modalities, dtype)
    if is_zero:
        features['m0'].zero_()
    expected = expected_output(model, features, graphs)
    for prepare in (False, True):
        graph = model.adjacency_dict(graphs) if prepare else graphs
        out, views = model(features, graph, return_views=True)
        for got, want in zip((out['user'], out['item']), expected):
            assert got.dtype == dtype
            assert_close(got.double(), want, **TOLERANCE[dtype])
        loss_fn = CrossModalContrastiveLoss(anchor='main')
        loss = out['user'].float().square().mean()
        for t, x in out.items():
            view = {m: v[t] for m, v in views.items()}
            loss = loss + loss_fn(view, torch.zeros(1).long(), x)
        model.zero_grad()
        loss.backward()
        for name, p in model.named_parameters():
            assert p.grad.isfinite().all(), name
    top = model.recommend(features, graphs, 1, graphs[OBSERVED])
    assert top.size() == (model.num_users, 1)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', ['masked', 'paper', 'normalized'])
def test_diffusion_of_any_size_and_type(dtype, size, kind):
    num_users, num_items, num_edges = SIZES[size]
    pairs = torch.randperm(num_users * num_items)[:num_edges]
    edge_index = torch.stack([pairs // num_items, pairs % num_items])
    is_masked = kind == 'masked'
    make = ModalityDiffusion if is_masked else ModalityDiffusion.paper
    options = {'hidden_channels': [6, 5], 'normalize': kind == 'normalized'}
    diffusion = make(num_items, ['image'], **options).to(dtype)
    lists = CSR.from_edge_index(edge_index, (num_users, num_items))
    emb = torch.randn(num_items, 3).to(dtype)
    if is_masked:
        observed = torch.bincount(edge_index[1], minlength=num_items) > 0
        diffusion.set_features({'image': emb}, observed)
    x_start = lists.dense(emb)

    losses = [diffusion.loss('image', x_start, emb, emb)]
    for form in FORMS:
        if form == 'gram' and is_masked:
            continue
        losses.append(diffusion.batch_loss('image', lists, emb, emb, form=form))
    for elbo, msi in losses:
        assert elbo.size() == msi.size() == (num_users,)
        diffusion.zero_grad()
        # Half precision needs a gradient scale: weights of the ELBO are
        # in the thousands.
        scale = 1e-4 if dtype == torch.half else 1.0
        (scale * (elbo.mean() + msi.mean())).backward()
        for p in diffusion.parameters():
            # Gradients may leave the range of float16.
            assert dtype == torch.half or p.grad.isfinite().all()

    # In hidden size, and in the plain form.
    diffusion.eval()
    diffusion.place_unobserved(lists)
    out = diffusion.sample_edges('image', edge_index, num_users)
    assert out.size() == (2, num_users)
    score = diffusion.sample('image', x_start)
    assert score.dtype == dtype and score.isfinite().all()
    got = score.double().gather(1, out[1].view(-1, 1)).view(-1)
    atol = 0.1 if dtype in HALF else 1e-5
    assert_close(got, score.double().amax(dim=1), rtol=0, atol=atol)


@pytest.mark.parametrize('dtype', DTYPES)
def test_transform_of_any_type(planted, dtype):
    data = planted()
    diffusion = ModalityDiffusion(24, ['image', 'text'], hidden_channels=8)
    transform = ModalityAwareGraphDiffusion(diffusion.to(dtype))
    if dtype == torch.half:
        with pytest.raises(ValueError, match="'diffusion'.*float16"):
            transform.fit(data)
    else:
        transform.fit(data, num_epochs=2, embedding_dim=4)
    data = transform(data)
    for m in ('image', 'text'):
        edge_index = data['user', f'denoised_{m}', 'item'].edge_index
        assert edge_index.size() == (2, 5 * 32)
    for p in diffusion.parameters():
        assert p.dtype == dtype and p.isfinite().all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_evaluation_of_any_type(dtype):
    user, item = torch.randn(5, 4).to(dtype), torch.randn(7, 4).to(dtype)
    best = (user.double() @ item.double().t()).argmax(dim=1)
    out = evaluate(user, item, torch.stack([torch.arange(5), best]), k=3)
    assert out['recall@3'] == 1.0


CONFIG = DiffMMConfig(
    num_epochs=2, batch_size=16, k=3, embedding_dim=4, hidden_channels=8
)
NAMES = ['x' * 10_000, '.', 'a__b', '%2E', "it's", 'e\u0301', '\u202e']
NAMES += ['keys', '__class__', 'interacts', 'denoised_image', 'edge_index']


def trained(planted, names, tmp_path):
    data = planted(modalities=names)
    trainer = DiffMMTrainer(data, CONFIG, modalities=names)
    trainer.fit(checkpoint_dir=tmp_path)
    again = DiffMMTrainer(data, CONFIG, modalities=names)
    again.task.set_state(trainer.task.get_state())
    assert all(map(torch.equal, trainer.embeddings(), again.embeddings()))
    losses = [list(record['loss'].values()) for record in trainer.history]
    return trainer, losses


@pytest.mark.parametrize('name', NAMES, ids=lambda name: ascii(name)[:20])
def test_a_name_is_only_a_name(planted, tmp_path, name):
    # All numbers are the same as with an ordinary name.
    trainer, losses = trained(planted, [name, 'second'], tmp_path / '1')
    plain, expected = trained(planted, ['first', 'second'], tmp_path / '2')
    assert losses == expected
    assert all(map(torch.equal, trainer.embeddings(), plain.embeddings()))
    assert f'diffusion_{name}' in trainer.history[0]['loss']
    assert list(trainer.task.diffusion.denoisers) == [name, 'second']


@pytest.mark.parametrize('part', ['model', 'diffusion'])
def test_trainer_takes_no_float16(planted, part):
    def make(num_items):
        if part == 'model':
            return DiffMM(32, num_items, {'image': 4, 'text': 5}, 4)
        return ModalityDiffusion(num_items, ['image', 'text'])

    with pytest.raises(ValueError, match=f"'{part}'.*float16"):
        DiffMMTrainer(planted(), CONFIG, **{part: make(24).half()})
    with pytest.raises(ValueError, match=f"'{part}'.*items"):
        DiffMMTrainer(planted(), CONFIG, **{part: make(23)})


def test_training_with_few_and_many(planted):
    trainer = DiffMMTrainer(planted(num_users=1), CONFIG)
    trainer.fit()
    assert all(x.isfinite().all() for x in trainer.embeddings())
    names = [f'm{n}' for n in range(20)]
    data, plain = planted(modalities=names), planted(modalities=names)
    # A second step would backpropagate through its history again.
    data['item'].x_m0 = data['item'].x_m0.requires_grad_() * 1
    trainer, expected = (DiffMMTrainer(x, CONFIG) for x in (data, plain))
    assert trainer.fit()[-1]['loss'] == expected.fit()[-1]['loss']
    assert len(trainer.edge_index_dict) == 21
    assert data['item'].x_m0.requires_grad
    # Of one item, there is nothing to rank.
    data = planted(3, 1, 1, num_train=1, modalities=['image'])
    for key in ('val_edge_label_index', 'test_edge_label_index'):
        data[OBSERVED][key] = data[OBSERVED].edge_index
    config = dataclasses.replace(CONFIG, k=1)
    with pytest.raises(ValueError, match='edge_index.*not interacted with'):
        DiffMMTrainer(data, config)
