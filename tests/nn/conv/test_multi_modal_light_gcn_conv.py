import math
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
import torch_geometric.transforms as T
from torch.nn import Parameter
from torch.testing import assert_close
from torch_geometric.data import HeteroData
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import LGConv, MeanAggregation

from diffmm_geo.nn import BipartiteLGConv, MultiModalLightGCNConv
from diffmm_geo.sparse import BipartiteAdj
from tests.wrong_values import wrong_values

U, I, C = 9, 7, 4
SIZE = (U, I)
OBSERVED = ('user', 'interacts', 'item')
NONE = torch.empty(2, 0, dtype=torch.long)
OTHER_SIZE = BipartiteAdj.from_adj(NONE, (U + 1, I), prepare=True)


def generated(m):
    return ('user', f'denoised_{m}', 'item')


def inputs(random_edges, modalities=('image', 'text'), dtype=None):
    x_dict = {
        'user': torch.randn(U, C, dtype=dtype, requires_grad=True),
        'item': torch.randn(I, C, dtype=dtype, requires_grad=True),
    }
    modality_dict = {
        m: torch.randn(I, C, dtype=dtype, requires_grad=True)
        for m in modalities
    }
    edge_index_dict = {OBSERVED: random_edges(U, I, 20)}
    for m in modalities:
        edge_index_dict[generated(m)] = random_edges(U, I, U)
    return x_dict, edge_index_dict, modality_dict


def joint(edge_index):
    r"""The joint graph with self-loops."""
    user, item = edge_index
    loop = torch.arange(U + I)
    return torch.stack(
        [torch.cat([user, item + U, loop]), torch.cat([item + U, user, loop])]
    )


def naive(conv, x_dict, edge_index_dict, modality_dict):
    r"""The equations, a modality at a time, by PyG's own convolution."""
    lg_conv, (user, _, item) = LGConv(), conv.edge_type
    adj = joint(edge_index_dict[conv.edge_type])
    x_user, x_item = x_dict[user], x_dict[item]
    out = 0
    for weight, m in zip(conv.modality_weight.softmax(0), conv.modalities):
        feature = F.normalize(modality_dict[m], dim=-1)
        p = lg_conv(torch.cat([x_user, feature]), adj)
        q = lg_conv(torch.cat([p[:U], x_item]), adj)
        h = p + q
        if (user, f'denoised_{m}', item) in edge_index_dict:
            graph = joint(edge_index_dict[user, f'denoised_{m}', item])
            g = lg_conv(torch.cat([x_user, x_item]), graph)
            h = h + conv.generated_weight * g
        out = out + weight * h
    return {user: out[:U], item: out[U:]}


def with_gradients(function, conv, x_dict, edge_index_dict, modality_dict):
    r"""Outputs, and gradients of all that is learned."""
    out = function(x_dict, edge_index_dict, modality_dict)
    loss = out['user'].sin().sum() + out['item'].square().sum()
    learned = [*x_dict.values(), *modality_dict.values(), conv.modality_weight]
    return out, torch.autograd.grad(loss, learned)


def by_equations(conv):
    return lambda *args: naive(conv, *args)


def make_conv(modalities=('image', 'text'), **kwargs):
    conv = MultiModalLightGCNConv(modalities, **kwargs)
    torch.nn.init.normal_(conv.modality_weight)
    return conv


@pytest.mark.parametrize('num_modalities', [1, 2, 4])
def test_equations(random_edges, num_modalities):
    names = [f'm{n}' for n in range(num_modalities)]
    spelled_out = dict(aggr='sum', flow='source_to_target', node_dim=-2)
    conv = make_conv(names, generated_weight=0.7, **spelled_out).double()
    args = inputs(random_edges, names, torch.double)
    actual = with_gradients(conv, conv, *args)
    assert_close(actual, with_gradients(by_equations(conv), conv, *args))


@pytest.mark.parametrize(
    ('normalize', 'dtype', 'tolerance'),
    [
        (True, torch.float, {}),
        (False, torch.float, {}),
        # Some forms hold weights in single precision.
        (True, torch.double, {'rtol': 1e-5, 'atol': 1e-6}),
    ],
)
def test_adj_forms(adj_form, random_edges, normalize, dtype, tolerance):
    conv = make_conv(normalize=normalize).to(dtype)
    x, edges, features = inputs(random_edges, dtype=dtype)
    forms = {key: adj_form(e, SIZE) for key, e in edges.items()}
    if not normalize and isinstance(forms[OBSERVED], BipartiteAdj):
        forms = conv.adjacency_dict(edges, SIZE, prepare=True)
    actual = with_gradients(conv, conv, x, forms, features)
    expected = with_gradients(conv, conv, x, edges, features)
    assert_close(actual, expected, **tolerance)


def test_without_normalization(random_edges):
    user, item = edge_index = random_edges(U, I, 20)
    matrix = torch.zeros(U, I)
    matrix[user, item] = 1
    x = torch.randn(U, C), torch.randn(I, C)
    out = BipartiteLGConv(normalize=False)(x, edge_index)
    assert_close(out, (matrix @ x[1], matrix.t() @ x[0]))


def test_static_graphs(adj_form, random_edges):
    conv = make_conv()
    _, edges, _ = inputs(random_edges)
    forms = {key: adj_form(e, SIZE) for key, e in edges.items()}
    x = {'user': torch.randn(2, 3, U, C), 'item': torch.randn(2, 3, I, C)}
    features = {m: torch.randn(2, 3, I, C) for m in conv.modalities}
    out = conv(x, forms, features)
    for i, j in product(range(2), range(3)):
        one_x, one_features, one = (
            {key: v[i, j] for key, v in values.items()}
            for values in (x, features, out)
        )
        assert_close(one, conv(one_x, edges, one_features))


@pytest.mark.parametrize('size', [(0, C), (2, 0, C), (2, 0), (0, 0)])
def test_empty_dimensions(adj_form, random_edges, size):
    *batch, channels = size
    x = torch.randn(*batch, U, channels), torch.randn(*batch, I, channels)
    x[0].requires_grad_()
    out = BipartiteLGConv()(x, adj_form(random_edges(U, I, 20), SIZE))
    assert [y.size() for y in out] == [y.size() for y in x]
    (out[0].sum() + out[1].sum()).backward()


@pytest.mark.parametrize('features_are_zero', [True, False])
def test_without_edges(random_edges, features_are_zero):
    conv = make_conv()
    x, edges, features = inputs(random_edges)
    if features_are_zero:
        features['image'] = torch.zeros(I, C, requires_grad=True)
    none = dict.fromkeys(edges, NONE)
    # Missing generated edges contribute nothing.
    one = {key: e for key, e in edges.items() if key != generated('text')}
    for graphs in (edges, none, one, {OBSERVED: edges[OBSERVED]}):
        out, grads = with_gradients(conv, conv, x, graphs, features)
        assert all(grad.isfinite().all() for grad in grads)
        assert_close(out, naive(conv, x, graphs, features))


def test_reset_parameters():
    conv = make_conv(['a', 'b', 'c', 'd'])
    conv.reset_parameters()
    assert_close(conv.modality_weight.softmax(0), torch.full((4,), 0.25))


@pytest.mark.parametrize('subgraph_type', ['directional', 'bidirectional'])
def test_link_neighbor_loader(random_edges, subgraph_type):
    pytest.importorskip('torch_sparse')
    from torch_geometric.loader import LinkNeighborLoader

    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 90, 60
    data[OBSERVED].edge_index = random_edges(90, 60, 130)
    data[generated('image')].edge_index = random_edges(90, 60, 40)
    loader = LinkNeighborLoader(
        # Items are reached from users, and users from items.
        T.ToUndirected()(data),
        # The second term takes two hops, and degrees of its nodes one more.
        num_neighbors=[-1] * 3,
        edge_label_index=(OBSERVED, data[OBSERVED].edge_index),
        subgraph_type=subgraph_type,
        batch_size=2,
    )
    conv = MultiModalLightGCNConv(['image'])
    emb = {'user': torch.randn(90, C), 'item': torch.randn(60, C)}
    features = torch.randn(60, C)
    whole = conv(emb, data.edge_index_dict, {'image': features})
    for batch in loader:
        n_id = {t: batch[t].n_id for t in emb}
        assert n_id['user'].numel() < 90
        out = conv(
            {t: emb[t][n_id[t]] for t in emb},
            batch.edge_index_dict,
            {'image': features[n_id['item']]},
        )
        for index, t in zip(batch[OBSERVED].edge_label_index, emb):
            assert_close(out[t][index], whole[t][n_id[t][index]])


@pytest.mark.parametrize(
    ('name', 'position', 'key', 'value'),
    [
        ('x_dict', 0, 'item', torch.ones(I, C + 1)),
        ('edge_index', 1, OBSERVED, torch.tensor([[U], [0]])),
        ('edge_index', 1, OBSERVED, torch.tensor([[-1], [0]])),
        ('edge_index', 1, generated('text'), torch.tensor([[0], [I]])),
        ('adj_t', 1, OBSERVED, torch.ones(U, I).to_sparse_coo()),
        ('edge_index', 1, OBSERVED, OTHER_SIZE),
        ('modality_dict', 2, 'text', torch.ones(I + 1, C)),
        ('modality_dict', 2, 'text', torch.full((I, C), math.nan)),
    ],
)
def test_bad_input(random_edges, name, position, key, value):
    args = inputs(random_edges)
    args[position][key] = value
    with pytest.raises(ValueError, match=f"'{name}"):
        make_conv()(*args)


@wrong_values(
    # These have no meaning in a layer that sums in both directions.
    aggr=['mean', 'max', ['add', 'mean'], MeanAggregation(), None],
    flow=['target_to_source', 'up'],
    node_dim=[0, -1],
)
def test_options_without_a_meaning(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        MultiModalLightGCNConv(['a'], **{name: value})
    with pytest.raises(ValueError, match=f"'{name}'"):
        BipartiteLGConv(**{name: value})


def test_masks_of_explanations(adj_form, random_edges):
    # As with PyG's layers, a mask has an entry for each edge.
    edge_index = random_edges(U, I, 20)
    x, form = (torch.randn(U, C), torch.randn(I, C)), adj_form(edge_index, SIZE)
    conv = BipartiteLGConv()
    plain = conv(x, form)
    adj = conv.adjacency(edge_index, SIZE)
    mask = torch.rand(20)
    masked = conv.step(replace(adj, weight=adj.weight * mask), *x)

    set_masks(conv, Parameter(mask), edge_index, apply_sigmoid=False)
    assert_close(conv(x, edge_index), masked)
    edges = getattr(form, 'to_user', form)
    if getattr(edges, 'layout', None) is torch.strided:
        assert_close(conv(x, form), masked)
    else:
        with pytest.raises(ValueError, match="'edge_index'.*to explain"):
            conv(x, form)
    clear_masks(conv)
    assert_close(conv(x, form), plain)


def test_transforms_of_functions(random_edges):
    # Of PyTorch, with an `edge_index`; see the documentation.
    edge_index = random_edges(U, I, 20)
    x_user, x_item = torch.randn(U, C, requires_grad=True), torch.randn(I, C)
    conv = BipartiteLGConv()

    def loss(x_user, adj):
        user, item = conv((x_user, x_item), adj)
        return user.pow(3).sum() + item.pow(3).sum()

    (expected,) = torch.autograd.grad(loss(x_user, edge_index), x_user)
    grad = torch.func.grad(loss)(x_user.detach(), edge_index)
    assert_close(grad, expected)
    prepared = conv.adjacency(edge_index, SIZE, prepare=True)
    with pytest.raises(RuntimeError, match='setup_context'):
        torch.func.grad(loss)(x_user.detach(), prepared)
    for adj, fullgraph in ((edge_index, True), (prepared, False)):
        compiled = torch.compile(loss, backend='eager', fullgraph=fullgraph)
        (grad,) = torch.autograd.grad(compiled(x_user, adj), x_user)
        assert_close(grad, expected)
