import pytest
import torch
import torch_geometric.typing
from torch.testing import assert_close
from torch_geometric.nn import LGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import SparseTensor

from diffmm_geo.nn import BipartiteLGConv
from diffmm_geo.sparse import BipartiteAdj
from tests.wrong_values import wrong_values

SIZE = (6, 5)


def dense(adj, size=SIZE):
    r"""The joint matrix of a step."""
    eye = torch.eye(sum(size))
    step = BipartiteLGConv().step(adj, eye[: size[0]], eye[size[0] :])
    return torch.cat(step)


def expected(edge_index):
    num_users = SIZE[0]
    joint = torch.eye(sum(SIZE))
    for user, item in edge_index.t().tolist():
        joint[user, num_users + item] += 1
        joint[num_users + item, user] += 1
    scale = joint.sum(1).rsqrt()
    return scale.view(-1, 1) * joint * scale


def in_pyg(edge_index, weight=None, add_self_loops=True):
    r"""The joint matrix, normalized by PyG."""
    joint = torch.stack([edge_index[0], edge_index[1] + SIZE[0]])
    joint, value = gcn_norm(
        torch.cat([joint, joint.flip(0)], dim=1),
        None if weight is None else weight.repeat(2),
        sum(SIZE),
        add_self_loops=add_self_loops,
    )
    out = torch.zeros(sum(SIZE), sum(SIZE))
    return out.index_put(tuple(joint), value, accumulate=True)


@pytest.fixture
def edge_index(random_edges):
    return random_edges(*SIZE, 11)


@pytest.mark.parametrize('kind', ['distinct', 'duplicates', 'none'])
def test_forms(adj_form, edge_index, kind):
    if kind == 'duplicates':  # They add up.
        edge_index = torch.tensor([[0, 0, 1], [2, 2, 0]])
    elif kind == 'none':
        edge_index = edge_index[:, :0]
    adj = adj_form(edge_index, SIZE)
    if isinstance(adj, BipartiteAdj):
        assert_close(dense(adj), expected(edge_index))
        return
    joint = torch.zeros(11, 11)
    index = (edge_index[0], 6 + edge_index[1])
    joint.index_put_(index, torch.ones(()), accumulate=True)
    for prepare in (False, True):
        out = BipartiteAdj.from_adj(adj, SIZE, prepare=prepare)
        assert_close(dense(out), expected(edge_index))
        out = BipartiteAdj.from_adj(adj, SIZE, False, prepare=prepare)
        assert_close(dense(out), joint + joint.t())


def weighted_forms(edge_index, weight):
    r"""All forms of a graph with weights, as arguments of `from_adj`."""
    adj_t = torch.sparse_coo_tensor(edge_index.flip(0), weight, SIZE[::-1])
    forms = [(edge_index, weight)]
    forms += [(adj_t, None), (adj_t.to_sparse_csr(), None)]
    forms.append((adj_t.to_sparse_csc(), None))
    if torch_geometric.typing.WITH_TORCH_SPARSE:
        forms.append((SparseTensor.from_torch_sparse_coo_tensor(adj_t), None))
    return forms


def from_weights(form, weight, **kwargs):
    return BipartiteAdj.from_adj(form, SIZE, edge_weight=weight, **kwargs)


@pytest.mark.parametrize('prepare', [False, True])
@pytest.mark.parametrize('add_self_loops', [False, True])
def test_normalizes_as_pyg_does(edge_index, prepare, add_self_loops):
    kwargs = {'prepare': prepare, 'add_self_loops': add_self_loops}
    adj = BipartiteAdj.from_adj(edge_index, SIZE, **kwargs)
    assert_close(dense(adj), in_pyg(edge_index, None, add_self_loops))
    weight = torch.rand(edge_index.size(1)) + 0.1
    if add_self_loops:
        weight[0] = -0.05  # Degrees stay positive.
    expected = in_pyg(edge_index, weight, add_self_loops)
    for form in weighted_forms(edge_index, weight):
        assert_close(dense(from_weights(*form, **kwargs)), expected)


@pytest.mark.parametrize('prepare', [False, True])
@pytest.mark.parametrize('add_self_loops', [False, True])
@pytest.mark.parametrize('tiny', [0.0, 1e-30])
def test_degrees_of_zero(prepare, add_self_loops, tiny):
    # The weights of user 0 cancel out.
    edge_index = torch.tensor([[0, 0, 1, 3, 4], [0, 1, 2, 1, 0]])
    first = -1.5 if add_self_loops else -0.5
    weight = torch.tensor([first, 0.5, tiny, 2.0, 2.0], requires_grad=True)
    expected = in_pyg(edge_index, weight.detach(), add_self_loops)
    assert expected.isfinite().all() and not expected[0].any()
    kwargs = {'prepare': prepare, 'add_self_loops': add_self_loops}
    for form in weighted_forms(edge_index, weight.detach()):
        assert_close(dense(from_weights(*form, **kwargs)), expected)
    out = dense(from_weights(edge_index, weight, **kwargs))
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert tiny > 0 or grad.isfinite().all()


@pytest.mark.parametrize('bad', [-9.0, float('nan'), float('inf')])
@pytest.mark.parametrize('prepare', [False, True])
def test_bad_weights(edge_index, bad, prepare):
    weight = torch.rand(edge_index.size(1))
    weight[2] = bad
    for form in weighted_forms(edge_index, weight):
        name = 'edge_index' if form[1] is None else 'edge_weight'
        with pytest.raises(ValueError, match=f"'{name}'"):
            from_weights(*form, prepare=prepare)
        if bad == -9.0:  # Without normalization, any number will do.
            from_weights(*form, normalize=False, prepare=prepare)
            continue
        with pytest.raises(ValueError, match=f"'{name}' needs to be finite"):
            from_weights(*form, normalize=False, prepare=prepare)


def test_layer_takes_weights(edge_index):
    x = torch.randn(sum(SIZE), 3)
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    conv = BipartiteLGConv(add_self_loops=False)
    out = torch.cat(conv(x.split(SIZE), edge_index, weight))
    joint = torch.stack([edge_index[0], edge_index[1] + SIZE[0]])
    joint = torch.cat([joint, joint.flip(0)], dim=1)
    expected = LGConv()(x, joint, torch.cat([weight, weight]))
    assert_close(out, expected)
    assert_close(
        torch.autograd.grad(out.pow(2).sum(), weight),
        torch.autograd.grad(expected.pow(2).sum(), weight),
    )
    # Other forms hold weights of their own.
    others = [f for f, w in weighted_forms(edge_index, weight) if w is None]
    for other in (conv.adjacency(edge_index, SIZE), *others):
        with pytest.raises(ValueError, match="'edge_weight'"):
            conv(x.split(SIZE), other, weight)
    with pytest.raises(ValueError, match="'edge_weight' needs 11 elements"):
        conv(x.split(SIZE), edge_index, weight[1:])


def test_dropout_drops_directed_entries(random_edges):
    size = (60, 50)
    edge_index = random_edges(*size, 2000)
    adj = BipartiteAdj.from_adj(edge_index, size, prepare=True)
    assert adj.dropout(1.0) is adj
    for rate in (0.0, 1.5):
        with pytest.raises(ValueError, match="'keep_rate'"):
            adj.dropout(rate)
    full, out = dense(adj, size), dense(adj.dropout(0.25), size)
    kept = out != 0
    assert_close(out[kept], 4 * full[kept])
    there = full != 0
    loops = torch.eye(110, dtype=torch.bool)
    for part in (there & ~loops, there & loops):
        rate = (kept & part).sum() / part.sum()
        assert 0.1 < rate < 0.45
    # Both directions are independent.
    assert not kept.equal(kept.t())
    # The backward pass sees the same entries as the forward pass.
    x_item = torch.randn(50, 2, requires_grad=True)
    dropped = adj.dropout(0.5, torch.Generator().manual_seed(1))
    again = adj.dropout(0.5, torch.Generator().manual_seed(1))
    conv = BipartiteLGConv()
    conv.to_user(dropped, torch.zeros(60, 2), x_item).sum().backward()
    matrix = dense(again, size)[:60, 60:]
    assert_close(x_item.grad, matrix.sum(0).view(-1, 1).expand(-1, 2))


@wrong_values(
    edge_index=[
        *['nonsense', None, torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1])],
        *[torch.tensor(e) for e in ([[6], [0]], [[0], [5]], [[-1], [0]])],
    ],
    adj_t=[torch.ones(6, 5).to_sparse_csr(), torch.ones(6, 5).to_sparse_coo()],
)
def test_bad_adjacency(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        BipartiteAdj.from_adj(value, SIZE)
