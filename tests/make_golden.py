r"""Computes `golden.npz` with the authors' code, from a checkout of
https://github.com/HKUDS/DiffMM (commit fae20e6):

python tests/make_golden.py CHECKOUT --check tests/golden.npz
python tests/make_golden.py CHECKOUT --output other.npz --users 50 --items 40

The first command takes the inputs of a file (graph, features, weights, noise,
batch) and compares all outputs. The second also draws the inputs. `golden.md`
describes each entry. The authors' code runs unchanged, except that `.cuda()`
does nothing. Parts of its training loop that are not functions are copied line
by line.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

MODALITIES = ('image', 'text', 'audio')
CHANNELS = dict(zip(MODALITIES, (6, 5, 4)))
ARGS = {
    'latdim': 8,
    'gnn_layer': 1,
    'temp': 0.5,
    'reg': 1e-4,
    'ssl_reg': 1e-2,
    'ris_lambda': 0.5,
    'ris_adj_lambda': 0.2,
    'steps': 5,
    'd_emb_size': 10,
    'trans': 1,
}
HIDDEN, BATCH, K = 16, 12, 2


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkout')
    parser.add_argument('--check', help='a file to compare with')
    parser.add_argument('--output', help='a file to write')
    parser.add_argument('--users', type=int, default=30)
    parser.add_argument('--items', type=int, default=24)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if (args.check is None) == (args.output is None):
        parser.error('needs one of --check and --output')
    return args


def draw(users, items, seed):
    r"""The inputs except the weights, which the authors' modules initialize."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    mask = rng.random((users, items)) < 0.18
    mask[np.arange(users), rng.integers(items, size=users)] = True
    edge_index = np.stack(mask.nonzero())
    chosen = rng.choice(edge_index.shape[1], BATCH, replace=False)
    negative = [rng.choice(np.flatnonzero(~mask[u]))
                for u in edge_index[0, chosen]]  # fmt: skip
    held_out = (rng.random((users, items)) < 0.15) & ~mask
    x0_users = rng.choice(users, BATCH, replace=False)
    out = {
        'num_users': users,
        'num_items': items,
        'modalities': np.array(MODALITIES),
        'edge_index': edge_index,
        'x0_users': x0_users,
        'timesteps': rng.integers(ARGS['steps'], size=BATCH),
        'noise': rng.standard_normal((BATCH, items), np.float32),
        'msi_weight': 0.1,
        'edges_per_user': K,
        'noise_scale_min_max': np.array([0.1, 1e-4, 0.02]),
        'batch_users': edge_index[0, chosen],
        'batch_pos_items': edge_index[1, chosen],
        'batch_neg_items': np.array(negative),
        'eval_scores': rng.standard_normal((users, items), np.float32),
        'eval_test_edge_index': np.stack(held_out.nonzero()),
    }
    for m, channels in CHANNELS.items():
        out[f'x_{m}'] = rng.standard_normal((items, channels), np.float32)
    out |= {f'cfg_{name}': value for name, value in ARGS.items()}
    return out


def import_official(checkout, inputs):
    r"""The authors' module, with the settings of the inputs."""
    sys.path.insert(0, str(Path(checkout).resolve()))
    sys.argv = sys.argv[:1]
    torch.Tensor.cuda = lambda self: self
    import Model as official

    args = official.args
    args.user, args.item = int(inputs['num_users']), int(inputs['num_items'])
    for m in MODALITIES:
        setattr(args, f'{m}_feat_dim', inputs[f'x_{m}'].shape[1])
    for key, value in inputs.items():
        if key.startswith('cfg_'):
            setattr(args, key[4:], np.asarray(value).item())
    return official, args


def ui_matrix(edge_index, args):
    r"""`Coach.buildUIMatrix` and `Coach.normalizeAdj` of Main.py."""
    user, item = edge_index
    shape = args.user, args.item
    mat = sp.coo_matrix((np.ones(len(user)), (user, item)), shape=shape)
    a, b = (sp.csr_matrix((n, n)) for n in shape)
    mat = sp.vstack([sp.hstack([a, mat]), sp.hstack([mat.transpose(), b])])
    mat = (mat != 0) * 1.0
    mat = (mat + sp.eye(mat.shape[0])) * 1.0
    degree = np.array(mat.sum(axis=-1))
    scale = sp.diags(np.reshape(np.power(degree, -0.5), [-1]))
    mat = mat.dot(scale).transpose().dot(scale).tocoo()
    index = torch.from_numpy(np.vstack([mat.row, mat.col]).astype(np.int64))
    value = torch.from_numpy(mat.data.astype(np.float32))
    return torch.sparse_coo_tensor(
        index, value, mat.shape, check_invariants=False
    )


def load(module, inputs, prefix):
    r"""Loads the weights that are in the inputs, and returns all weights."""
    state = module.state_dict()
    known = {k: torch.from_numpy(np.asarray(inputs[f'{prefix}/{k}']))
             for k in state if f'{prefix}/{k}' in inputs}  # fmt: skip
    module.load_state_dict({**state, **known})
    return {f'{prefix}/{k}': v for k, v in module.state_dict().items()}


def gradients(module, prefix):
    return {
        f'{prefix}/{name}': p.grad.clone()
        for name, p in module.named_parameters()
        if p.grad is not None
    }


def diffusion(official, args, inputs, model):
    r"""The schedule, and the denoiser of each modality."""
    x = {m: torch.from_numpy(np.asarray(inputs[m]))
         for m in ('x0_users', 'timesteps', 'noise')}  # fmt: skip
    rows = torch.zeros(args.user, args.item)
    rows[tuple(torch.from_numpy(np.asarray(inputs['edge_index'])))] = 1.0
    x_start, noise, t = rows[x['x0_users']], x['noise'], x['timesteps']
    process = official.GaussianDiffusion(
        *np.asarray(inputs['noise_scale_min_max']).tolist(), args.steps
    )
    names = 'betas alphas_cumprod sqrt_alphas_cumprod posterior_variance'
    names += ' sqrt_one_minus_alphas_cumprod posterior_log_variance_clipped'
    names += ' posterior_mean_coef1 posterior_mean_coef2'
    out = {name: getattr(process, name) for name in names.split()}
    out['x_t'] = process.q_sample(x_start, t, noise)
    for m in MODALITIES:
        dims = [args.item, HIDDEN]
        denoiser = official.Denoise(dims, dims[::-1], args.d_emb_size)
        denoiser.drop.p = 0.0
        out |= load(denoiser, inputs, f'denoise_{m}')
        feature = getattr(model, f'get{m.capitalize()}Feats')().detach()
        out[f'projected_{m}'] = feature
        out[f'denoised_{m}'] = denoiser(out['x_t'], t)
        # `training_losses` draws the step and the noise itself.
        torch.randint, randint = lambda *_: t, torch.randint
        torch.randn_like, randn_like = lambda *_: noise, torch.randn_like
        elbo, msi = process.training_losses(
            denoiser, x_start, model.getItemEmbeds().detach(), None, feature
        )
        torch.randint, torch.randn_like = randint, randn_like
        loss = elbo.mean() + msi.mean() * float(inputs['msi_weight'])
        loss.backward()
        out |= gradients(denoiser, f'grad/denoise_{m}')
        with torch.no_grad():
            sampled = process.p_sample(denoiser, rows, 0, False)
        k = int(inputs['edges_per_user'])
        out |= {
            f'elbo_per_user_{m}': elbo,
            f'msi_per_user_{m}': msi,
            f'diffusion_loss_{m}': loss,
            f'sampled_{m}': sampled,
            f'topk_{m}': torch.topk(sampled, k=k).indices,
        }
    return out


def recommendation(official, args, inputs, model, topk):
    r"""The forward passes, and the losses of `Coach.trainEpoch`."""
    adj = ui_matrix(np.asarray(inputs['edge_index']), args)
    out, graphs = {'adj_dense': adj.to_dense()}, []
    for m in MODALITIES:
        items = topk[f'topk_{m}']
        users = torch.arange(args.user).repeat_interleave(items.size(1))
        edges = torch.stack([users, items.flatten()]).numpy()
        graphs.append(ui_matrix(edges, args))
        out[f'adj_dense_{m}'] = graphs[-1].to_dense()
    user, pos, neg = (
        torch.from_numpy(np.asarray(inputs[f'batch_{name}']))
        for name in ('users', 'pos_items', 'neg_items')
    )
    for anchor in ('modality', 'main'):
        model.zero_grad()
        u, i = model.forward_MM(adj, *graphs)
        score = official.pairPredict(u[user], i[pos], i[neg])
        bpr = -score.sigmoid().log().sum() / user.numel()
        reg = model.reg_loss() * args.reg
        views = model.forward_cl_MM(adj, *graphs)
        u_views, i_views = views[::2], views[1::2]
        pairs = [(u, i, a, b) for a, b in zip(u_views, i_views)]
        if anchor == 'modality':
            pairs = [
                (u_views[a], i_views[a], u_views[b], i_views[b])
                for a, b in ((0, 1), (0, 2), (1, 2))
            ]
        contrast = sum(
            official.contrastLoss(a, c, user, args.temp)
            + official.contrastLoss(b, d, pos, args.temp)
            for a, b, c, d in pairs
        )
        contrast = contrast * args.ssl_reg
        (bpr + reg + contrast).backward()
        out[f'contrastive_loss_{anchor}_anchor'] = contrast
        out |= gradients(model, f'grad/{anchor}_anchor')
    out |= {'user_out': u, 'item_out': i, 'bpr_loss': bpr, 'reg_loss': reg}
    for m, a, b in zip(MODALITIES, u_views, i_views):
        out |= {f'user_view_{m}': a, f'item_view_{m}': b}
    return out


def evaluation(inputs, k=5):
    r"""`Coach.testEpoch` and `Coach.calcRes`."""
    score = np.array(inputs['eval_scores'], np.float64)
    score[tuple(np.asarray(inputs['edge_index']))] = -1e8
    user, item = np.asarray(inputs['eval_test_edge_index'])
    total = np.zeros(3)
    for u in np.unique(user):
        top = np.argsort(-score[u], kind='stable')[:k].tolist()
        held_out = item[user == u]
        hits = [top.index(i) for i in held_out if i in top]
        ideal = sum(1 / np.log2(n + 2) for n in range(min(len(held_out), k)))
        gain = sum(1 / np.log2(n + 2) for n in hits)
        total += len(hits) / len(held_out), gain / ideal, len(hits) / k
    names = ('recall', 'ndcg', 'precision')
    values = total / len(np.unique(user))
    return {f'eval_{name}_at_{k}': v for name, v in zip(names, values)}


def differs(x, expected):
    if x.dtype.kind != 'f':
        return not np.array_equal(x, expected)
    # Gradients are differences of terms as large as the largest entry.
    atol = 1e-6 + np.finfo(np.float32).eps * np.abs(expected).max()
    return not np.allclose(x, expected, rtol=1e-4, atol=atol)


def main():
    options = parse_args()
    if options.check is not None:
        with np.load(options.check) as file:
            inputs = dict(file)
    else:
        inputs = draw(options.users, options.items, options.seed)
    official, args = import_official(options.checkout, inputs)
    features = [torch.from_numpy(inputs[f'x_{m}']) for m in MODALITIES]
    model = official.Model(*features)
    out = {**inputs, **load(model, inputs, 'model')}
    out |= diffusion(official, args, inputs, model)
    out |= recommendation(official, args, inputs, model, out)
    out |= evaluation(inputs)
    arrays = {
        key: x.detach().numpy() if isinstance(x, torch.Tensor) else np.array(x)
        for key, x in out.items()
    }
    if options.output is not None:
        np.savez_compressed(options.output, **arrays)
        return 0
    assert arrays.keys() == inputs.keys(), arrays.keys() ^ inputs.keys()
    wrong = [key for key, x in arrays.items() if differs(x, inputs[key])]
    print(f'{len(arrays)} entries, differing: {wrong or "none"}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
