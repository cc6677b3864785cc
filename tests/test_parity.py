r"""Compares every formula with numbers of the authors' implementation
(`golden.npz`, described in `golden.md`).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import (
    BipartiteLGConv,
    CrossModalContrastiveLoss,
    DiffMM,
    GaussianDiffusion,
    InteractionDiffusion,
    ModalityDiffusion,
)
from diffmm_geo.nn.diffusion import edge_sampling


class Golden(dict):
    r"""The numbers, on the default device."""

    def __getitem__(self, key):
        return super().__getitem__(key).to(torch.get_default_device())


with np.load(Path(__file__).with_name('golden.npz')) as file:
    GOLDEN = Golden(
        (key, torch.from_numpy(np.asarray(file[key])))
        for key in file
        if file[key].dtype.kind != 'U'
    )
    MODALITIES = [str(m) for m in file['modalities']]
NUM_USERS, NUM_ITEMS = int(GOLDEN['num_users']), int(GOLDEN['num_items'])
CFG = {
    key[4:]: value.item()
    for key, value in GOLDEN.items()
    if key.startswith('cfg_')
}

per_modality = pytest.mark.parametrize('m', MODALITIES)
per_anchor = pytest.mark.parametrize('anchor', ['modality', 'main'])


@pytest.fixture(autouse=True)
def device(request):
    r"""The CPU, or the device of `--device`."""
    with torch.device(request.config.getoption('--device') or 'cpu') as device:
        yield device


def check(actual, key, atol=1e-6):
    expected = GOLDEN[key] if isinstance(key, str) else key
    assert_close(
        actual, expected.to(actual.dtype).view_as(actual), rtol=1e-4, atol=atol
    )


def entries(prefix):
    return {
        key.removeprefix(prefix): GOLDEN[key]
        for key in GOLDEN
        if key.startswith(prefix)
    }


def features():
    return {m: GOLDEN[f'x_{m}'] for m in MODALITIES}


def rows(users=None):
    x = torch.zeros(NUM_USERS, NUM_ITEMS)
    user, item = GOLDEN['edge_index']
    x[user, item] = 1.0
    return x if users is None else x[users]


def generated_edges(m):
    topk = GOLDEN[f'topk_{m}']
    user = torch.arange(NUM_USERS).repeat_interleave(topk.size(1))
    return torch.stack([user, topk.reshape(-1)])


def edge_index_dict():
    return {('user', 'interacts', 'item'): GOLDEN['edge_index']} | {
        ('user', f'denoised_{m}', 'item'): generated_edges(m)
        for m in MODALITIES
    }


@pytest.fixture
def process():
    scale, low, high = GOLDEN['noise_scale_min_max'].tolist()
    return GaussianDiffusion(CFG['steps'], scale, low, high)


@pytest.fixture
def diffusion(process):
    hidden = GOLDEN[f'denoise_{MODALITIES[0]}/out_layers.0.weight'].size(1)
    out = ModalityDiffusion(
        NUM_ITEMS,
        MODALITIES,
        process,
        hidden_channels=hidden,
        time_channels=CFG['d_emb_size'],
        dropout=0.0,
    )
    for m, denoiser in out.denoisers.items():
        denoiser.load_official_state_dict(entries(f'denoise_{m}/'))
    return out


@pytest.fixture
def model():
    out = DiffMM(
        NUM_USERS,
        NUM_ITEMS,
        {m: x.size(1) for m, x in features().items()},
        CFG['latdim'],
        CFG['gnn_layer'],
        CFG['ris_adj_lambda'],
        CFG['ris_lambda'],
        'linear' if CFG['trans'] == 1 else 'leaky_xavier',
    )
    out.load_official_state_dict(entries('model/'))
    return out


# `test_gaussian_diffusion.py` lists the names. The authors weigh the ELBO in
# the loss.
@pytest.mark.parametrize(
    'name', sorted(GaussianDiffusion().state_dict().keys() - {'elbo_weight'})
)
def test_schedule(process, name):
    check(getattr(process, name), name, atol=1e-9)


def test_q_sample(process):
    x_start = rows(GOLDEN['x0_users'])
    x_t = process.q_sample(x_start, GOLDEN['timesteps'], GOLDEN['noise'])
    check(x_t, 'x_t')


@per_modality
def test_denoiser(diffusion, m):
    out = diffusion.denoisers[m](GOLDEN['x_t'], GOLDEN['timesteps'])
    check(out, f'denoised_{m}')


def diffusion_loss(diffusion, m):
    return diffusion.loss(
        m,
        rows(GOLDEN['x0_users']),
        GOLDEN['model/iEmbeds'],
        GOLDEN[f'projected_{m}'],
        float(GOLDEN['msi_weight']),
        GOLDEN['timesteps'],
        GOLDEN['noise'],
    )


@per_modality
def test_elbo(diffusion, m):
    check(diffusion_loss(diffusion, m)[0], f'elbo_per_user_{m}')


@per_modality
def test_modality_aware_signal_injection(diffusion, m):
    check(diffusion_loss(diffusion, m)[1], f'msi_per_user_{m}')


@per_modality
def test_diffusion_loss(diffusion, m):
    elbo, msi = diffusion_loss(diffusion, m)
    loss = elbo.mean() + float(GOLDEN['msi_weight']) * msi.mean()
    check(loss, f'diffusion_loss_{m}')


@per_modality
def test_diffusion_gradients(diffusion, m):
    elbo, msi = diffusion_loss(diffusion, m)
    (elbo.mean() + float(GOLDEN['msi_weight']) * msi.mean()).backward()
    d = diffusion.denoisers[m]
    first = torch.cat([d.item_weight.grad.t(), d.time_lin.weight.grad], dim=1)
    actual = {
        'emb_layer.weight': d.time_emb.weight.grad,
        'emb_layer.bias': d.time_emb.bias.grad,
        'in_layers.0.weight': first,
        'in_layers.0.bias': d.time_lin.bias.grad,
        'out_layers.0.weight': d.decoder[0].weight.grad,
        'out_layers.0.bias': d.decoder[0].bias.grad,
    }
    expected = entries(f'grad/denoise_{m}/')
    assert actual.keys() == expected.keys()
    for name, grad in actual.items():
        # The entries are differences of float32 terms as large as the largest
        # one.
        eps = torch.finfo(torch.float).eps
        check(grad, expected[name], atol=eps * float(grad.abs().max()))


@per_modality
def test_diffusion_gradients_in_float64(diffusion, m):
    diffusion = diffusion.double()
    elbo, msi = diffusion.loss(
        m,
        rows(GOLDEN['x0_users']).double(),
        GOLDEN['model/iEmbeds'].double(),
        GOLDEN[f'projected_{m}'].double(),
        float(GOLDEN['msi_weight']),
        GOLDEN['timesteps'],
        GOLDEN['noise'].double(),
    )
    (elbo.mean() + float(GOLDEN['msi_weight']) * msi.mean()).backward()
    d = diffusion.denoisers[m]
    first = torch.cat([d.item_weight.grad.t(), d.time_lin.weight.grad], dim=1)
    check(first, f'grad/denoise_{m}/in_layers.0.weight')


@per_modality
def test_reverse_process(diffusion, m):
    check(diffusion.sample(m, rows()), f'sampled_{m}', atol=1e-5)


@per_modality
def test_generated_edges_in_hidden_size(diffusion, m, monkeypatch):
    # Without `sample()`.
    monkeypatch.setattr(InteractionDiffusion, 'sample', None)
    k = int(GOLDEN['edges_per_user'])
    out = diffusion.sample_edges(m, GOLDEN['edge_index'], NUM_USERS, k)
    assert out.equal(generated_edges(m))


@per_modality
def test_generated_edges_of_dense_rows(diffusion, m):
    k = int(GOLDEN['edges_per_user'])
    out = diffusion.sample(m, rows()).topk(k, dim=1).indices
    assert out.equal(GOLDEN[f'topk_{m}'])


@per_modality
def test_generated_edges_in_blocks(diffusion, m, monkeypatch):
    monkeypatch.setattr(edge_sampling, 'BLOCK_SIZE', 7 * 16)
    k = int(GOLDEN['edges_per_user'])
    out = diffusion.sample_edges(m, GOLDEN['edge_index'], NUM_USERS, k)
    assert out.equal(generated_edges(m))


def joint(edge_index):
    conv = BipartiteLGConv()
    eye = torch.eye(NUM_USERS + NUM_ITEMS)
    return torch.cat(conv((eye[:NUM_USERS], eye[NUM_USERS:]), edge_index))


def test_normalized_adjacency():
    check(joint(GOLDEN['edge_index']), 'adj_dense')


@per_modality
def test_normalized_adjacency_of_generated_graph(m):
    check(joint(generated_edges(m)), f'adj_dense_{m}')


@per_modality
def test_projection(model, m):
    check(model.projected(features())[m], f'projected_{m}')


@pytest.mark.parametrize('prepared', [False, True])
@pytest.mark.parametrize('node_type', ['user', 'item'])
def test_output(model, node_type, prepared):
    graphs = edge_index_dict()
    if prepared:
        graphs = model.adjacency_dict(graphs)
    check(model(features(), graphs)[node_type], f'{node_type}_out')


@per_modality
@pytest.mark.parametrize('node_type', ['user', 'item'])
def test_modality_view(model, node_type, m):
    views = model.modality_views(features(), edge_index_dict())
    check(views[m][node_type], f'{node_type}_view_{m}')


def loss(model, anchor, graphs=None, **kwargs):
    return model.loss(
        features(),
        graphs or edge_index_dict(),
        torch.stack([GOLDEN['batch_users'], GOLDEN['batch_pos_items']]),
        GOLDEN['batch_neg_items'],
        reg_weight=CFG['reg'],
        ssl_weight=CFG['ssl_reg'],
        temperature=CFG['temp'],
        anchor=anchor,
        **kwargs,
    )


@per_anchor
def test_loss(model, anchor):
    out = loss(model, anchor)
    assert list(out) == ['bpr', 'reg', 'contrastive']
    check(out['bpr'], 'bpr_loss')
    check(out['reg'], 'reg_loss', atol=0)
    check(out['contrastive'], f'contrastive_loss_{anchor}_anchor', atol=0)


@per_anchor
def test_contrastive_loss(model, anchor):
    out, views = model(features(), edge_index_dict(), return_views=True)
    contrast = CrossModalContrastiveLoss(CFG['temp'], anchor)
    index = {'user': 'batch_users', 'item': 'batch_pos_items'}
    total = sum(
        contrast({m: views[m][t] for m in MODALITIES}, GOLDEN[key], out[t])
        for t, key in index.items()
    )
    key = f'contrastive_loss_{anchor}_anchor'
    check(CFG['ssl_reg'] * total, key, atol=0)


@per_anchor
@pytest.mark.parametrize('prepared', [False, True])
def test_gradients(model, anchor, prepared):
    graphs = edge_index_dict()
    if prepared:
        graphs = model.adjacency_dict(graphs)
    sum(loss(model, anchor, graphs).values()).backward()

    actual = {
        'uEmbeds': model.user_emb.weight.grad,
        'iEmbeds': model.item_emb.weight.grad,
        'modal_weight': model.conv.modality_weight.grad,
    }
    for m in MODALITIES:
        projection = model.projections[f'modality_{m}']
        if CFG['trans'] == 1:
            actual[f'{m}_trans.weight'] = projection.weight.grad
            actual[f'{m}_trans.bias'] = projection.bias.grad
        else:
            actual[f'{m}_trans'] = projection.weight.grad
    expected = entries(f'grad/{anchor}_anchor/')
    assert actual.keys() == expected.keys()
    for name, grad in actual.items():
        check(grad, expected[name])


@pytest.mark.parametrize('metric', ['recall', 'ndcg', 'precision'])
def test_metric(metric):
    out = evaluate(
        GOLDEN['eval_scores'],
        torch.eye(NUM_ITEMS),
        GOLDEN['eval_test_edge_index'],
        GOLDEN['edge_index'],
        k=5,
    )
    assert out[f'{metric}@5'] == pytest.approx(
        float(GOLDEN[f'eval_{metric}_at_5']), rel=1e-4
    )
