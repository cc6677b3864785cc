from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.ops import available_backends, propagate
from diffmm_geo.ops.propagate import propagate_naive
from diffmm_geo.sparse import BipartiteAdj

# One number of channels for each shape of the blocks of a kernel.
WIDE = st.sampled_from([64, 100, 192, 256, 300])
KINDS = ['normalized', 'dropout', 'unweighted']


def random_adj(
    num_users=6,
    num_items=5,
    num_edges=20,
    popular=0,
    kind='normalized',
    dtype=torch.double,
):
    # This includes duplicates and nodes without edges.
    user = torch.randint(num_users, (num_edges + popular,))
    item = torch.randint(num_items, (num_edges + popular,))
    item[num_edges:] = 0
    adj = BipartiteAdj.from_adj(
        torch.stack([user, item]),
        (num_users, num_items),
        normalize=kind != 'unweighted',
        dtype=dtype,
        prepare=True,
    )
    return adj.dropout(0.5) if kind == 'dropout' else adj


def trainable(adj):
    r"""Returns an adjacency with trained values and self-loops, which no
    longer follow from the scales.
    """
    params = [
        (2 * value).requires_grad_()
        for value in (
            adj.to_user.value,
            adj.to_item.value,
            adj.user_loop,
            adj.item_loop,
        )
    ]
    adj = replace(
        adj,
        to_user=adj.to_user.set_value(params[0]),
        to_item=adj.to_item.set_value(params[1]),
        user_loop=params[2],
        item_loop=params[3],
    )
    return adj, params


def forward_and_backward(adj, x, weight, params=(), **kwargs):
    x = [x_t.clone().requires_grad_() for x_t in x]
    out = propagate(adj, *x, **kwargs)
    loss = sum((o * w).sum() for o, w in zip(out, weight))
    return *out, *torch.autograd.grad(loss, [*x, *params])


def random_features(adj, channels, dtype=torch.double):
    return [torch.randn(n, channels, dtype=dtype) for n in adj.size]


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    num_users=st.integers(1, 8),
    num_items=st.integers(1, 8),
    num_edges=st.integers(0, 30),
    popular=st.integers(0, 100),
    kind=st.sampled_from(KINDS),
    channels=st.integers(1, 40) | WIDE,
    strided=st.booleans(),
    learned=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_backend_agrees_with_naive(
    name, kind, channels, strided, learned, seed, **sizes
):
    torch.manual_seed(seed)
    adj, params = random_adj(**sizes, kind=kind), []
    if learned and kind != 'unweighted':
        adj, params = trainable(adj)
    x, weight = random_features(adj, channels), random_features(adj, channels)
    if strided:
        x = [x_t.t().contiguous().t() for x_t in x]
        weight = [w.t().contiguous().t() for w in weight]
    got = forward_and_backward(adj, x, weight, params, backend=name)
    expected = forward_and_backward(adj, x, weight, params, backend='naive')
    assert_close(got, expected)


@pytest.mark.parametrize('kind', KINDS)
def test_naive_is_the_equation(kind):
    adj = random_adj(kind=kind)
    x_user, x_item = random_features(adj, 3)
    eye = torch.eye(5).double()
    to_user, _ = propagate_naive(adj, torch.zeros(6, 5).double(), eye)
    expected = to_user @ x_item
    if adj.user_loop is not None:
        expected = expected + adj.user_loop.view(-1, 1) * x_user
    assert_close(propagate_naive(adj, x_user, x_item)[0], expected)


def test_one_side_only(name):
    adj = random_adj(kind='dropout')
    x, weight = random_features(adj, 4), random_features(adj, 4)
    *_, grad_user, grad_item = forward_and_backward(
        adj, x, weight, backend='naive'
    )
    for side, expected in enumerate((grad_user, grad_item)):
        # Of the features, one needs a gradient.
        features = [x_t.clone() for x_t in x]
        features[side].requires_grad_()
        out = propagate(adj, *features, backend=name)
        sum((o * w).sum() for o, w in zip(out, weight)).backward()
        assert_close(features[side].grad, expected)
        assert features[1 - side].grad is None
        # Of the outputs, one is used.
        features[1 - side].requires_grad_()
        got, expected = (
            torch.autograd.grad(
                propagate(adj, *features, backend=b)[side].sum(), features
            )
            for b in (name, 'naive')
        )
        assert_close(got, expected)


def test_keeps_no_features(name):
    if name == 'naive':
        pytest.skip('leaves it to autograd')
    adj = random_adj()
    x_user, x_item = (x.requires_grad_() for x in random_features(adj, 4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        propagate(adj, x_user, x_item, backend=name)
    assert len(kept) == 0


def test_scales_match_the_normalization():
    adj = random_adj()
    row, col = adj.to_user.pattern.row, adj.to_user.pattern.col
    assert_close(adj.to_user.value, adj.user_scale[row] * adj.item_scale[col])
    assert_close(adj.user_loop, adj.user_scale.square())
    assert adj.to(dtype=torch.float).item_scale.dtype == torch.float
    weighted = BipartiteAdj.from_adj(torch.eye(5).to_sparse_coo(), (5, 5))
    for other in (adj.dropout(0.5), random_adj(kind='unweighted'), weighted):
        assert other.user_scale is None


def test_scales_replace_values_in_triton():
    if 'triton' not in available_backends():
        pytest.skip("'triton' is not installed")
    adj = random_adj(popular=70)
    wrong = replace(adj, to_user=adj.to_user.set_value(None), user_loop=None)
    x = random_features(adj, 5)
    assert_close(propagate(wrong, *x, backend='triton'), propagate(adj, *x))


def test_leading_dimensions(name):
    adj = random_adj()
    x_user = torch.randn(2, 3, 6, 4).double()
    x_item = torch.randn(2, 3, 5, 4).double()
    out = propagate(adj, x_user, x_item, backend=name)
    assert [o.size() for o in out] == [(2, 3, 6, 4), (2, 3, 5, 4)]
    for i in range(2):
        for j in range(3):
            expected = propagate_naive(adj, x_user[i, j], x_item[i, j])
            assert_close(tuple(o[i, j] for o in out), expected)


@pytest.mark.parametrize('size', [(0, 3), (3, 0), (0, 0), (3, 3)])
def test_no_edges(name, size):
    none = torch.empty(2, 0, dtype=torch.long)
    adj = BipartiteAdj.from_adj(none, size, prepare=True)
    x = [torch.randn(n, 2) for n in size]
    weight = [torch.ones(n, 2) for n in size]
    out = forward_and_backward(adj, x, weight, backend=name)
    assert_close(list(out), [*x, *weight], rtol=0, atol=0)


def test_no_channels(name):
    adj = random_adj()
    out = propagate(adj, *random_features(adj, 0), backend=name)
    assert [o.size() for o in out] == [(6, 0), (5, 0)]


@pytest.mark.parametrize('kind', ['normalized', 'dropout'])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(name, dtype, kind):
    adj = random_adj(popular=100, kind=kind, dtype=torch.float)
    x = random_features(adj, 16, dtype)
    weight = random_features(adj, 16, dtype)
    got = forward_and_backward(adj, x, weight, backend=name)
    expected = forward_and_backward(
        adj.to(dtype=torch.double),
        [x_t.double() for x_t in x],
        [w.double() for w in weight],
        backend='naive',
    )
    tolerance = 2 * torch.finfo(dtype).eps
    for a, b in zip(got, expected):
        assert a.dtype == dtype
        assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def test_unprepared():
    adj = BipartiteAdj.from_adj(torch.tensor([[0], [0]]), (6, 5))
    with pytest.raises(ValueError, match="'adj' needs a prepared"):
        propagate(adj, torch.randn(6, 3), torch.randn(5, 3))
