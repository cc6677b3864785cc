import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradgradcheck
from torch.autograd.functional import hessian
from torch.testing import assert_close

from diffmm_geo.ops import info_nce, propagate, spmm
from diffmm_geo.ops.diffused_linear import diffused_linear_shared
from diffmm_geo.ops.info_nce import info_nce_naive, info_nce_views
from diffmm_geo.ops.info_nce.triton import info_nce_triton
from diffmm_geo.ops.product import gram, product
from diffmm_geo.ops.reconstruction import reconstruction
from diffmm_geo.ops.reconstruction.square import (
    DenseSquare,
    GramSquare,
    SampledSquare,
)
from diffmm_geo.ops.row_linear import row_linear
from diffmm_geo.sparse import CSR, BipartiteAdj, SparseMatrix


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randn(*size):
    return torch.randn(*size, dtype=torch.double, requires_grad=True)


def penalty(function, *inputs):
    r"""A gradient penalty, and its gradients."""
    grads = torch.autograd.grad(function(*inputs), inputs, create_graph=True)
    total = sum(grad.square().sum() for grad in grads)
    return total, *torch.autograd.grad(total, inputs)


def make_matrix(dtype=torch.double):
    row, col = torch.randint(4, (9,)), torch.randint(5, (9,))
    value = torch.randn(9, dtype=dtype)
    return SparseMatrix.from_coo(row, col, value, (4, 5))


@pytest.mark.parametrize('weighted', [False, True])
def test_spmm(name, weighted):
    matrix = make_matrix()
    value = matrix.value.requires_grad_() if weighted else None

    def cubes(x, value, backend):
        out = spmm(matrix.set_value(value), x, backend)
        return out.pow(3).sum()

    inputs = (randn(5, 3), *([value] if weighted else []))
    args = [] if weighted else [None]
    got = penalty(lambda *x: cubes(*x, *args, name), *inputs)

    def formula(x, value=None):
        value = matrix.pattern.ones(x.dtype) if value is None else value
        index = matrix.pattern.row, matrix.pattern.col
        dense = x.new_zeros(4, 5).index_put(index, value, accumulate=True)
        return (dense @ x).pow(3).sum()

    assert_close(got, penalty(formula, *inputs))


def test_hessian_of_spmm():
    matrix, weight = make_matrix(), torch.randn(4, 3).double()

    def scores(x):
        return (spmm(matrix, x.square()) * weight).sum()

    x = randn(5, 3)
    expected = spmm(matrix.t(), weight) * 2
    expected = expected.view(-1).diag().view(5, 3, 5, 3)
    assert_close(hessian(scores, x), expected)
    assert_close(hessian(scores, x, strict=True), expected)


def test_penalties_of_fixed_values_repeat():
    matrix = make_matrix()
    matrix = matrix.set_value(matrix.value.requires_grad_())
    x = randn(5, 3)
    for _ in range(2):
        penalty(lambda x: spmm(matrix, x).pow(3).sum(), x)


@pytest.mark.parametrize('trained', [False, True])
def test_propagate(name, trained):
    index = torch.stack([torch.randint(4, (9,)), torch.randint(5, (9,))])
    adj = BipartiteAdj.from_adj(index, (4, 5), True, torch.double, prepare=True)
    to_user, to_item = adj.matrices()
    inputs = [randn(4, 3), randn(5, 3)]
    if trained:
        inputs += [randn(9), randn(9), randn(4), randn(5)]

    def cubes(x_user, x_item, *values, backend=name):
        used = adj
        if values:
            used = BipartiteAdj(
                to_user.set_value(values[0]),
                to_item.set_value(values[1]),
                None,
                *values[2:],
            )
        user, item = propagate(used, x_user, x_item, backend)
        return user.pow(3).sum() + (item.pow(2) * item.sum()).sum()

    got = penalty(cubes, *inputs)
    expected = penalty(lambda *x: cubes(*x, backend='naive'), *inputs)
    assert_close(got, expected)


@pytest.mark.parametrize('temperature', [1.0, 0.02])
def test_hessian_of_info_nce(temperature):
    a, b, index = randn(6, 3), randn(6, 3), torch.tensor([0, 2, 2, 5])
    got = hessian(lambda a, b: info_nce(a, b, index, temperature), (a, b))
    expected = hessian(
        lambda a, b: info_nce_naive(a, b, index, temperature), (a, b)
    )
    assert_close(got, expected)


def test_info_nce_of_a_view_with_itself():
    # The anchor is a function of the candidates.
    a, index = randn(6, 3), torch.arange(6)
    got = hessian(lambda x: info_nce(x.sin(), x.sin().exp(), index), a)
    expected = hessian(
        lambda x: info_nce_naive(x.sin(), x.sin().exp(), index, 0.5), a
    )
    assert_close(got, expected)


@pytest.mark.parametrize('temperature', [1.0, 0.02])
@pytest.mark.parametrize('size', [1, 4])
def test_sampled_info_nce(temperature, size):
    a, b, index = randn(6, 3), randn(6, 3), torch.tensor([0, 2, 2, 5])

    def loss(a, b):
        torch.manual_seed(1)
        return info_nce(a, b, index, temperature, size).square()

    assert gradgradcheck(loss, (a, b))


def test_several_views():
    a, b, c = randn(5, 3), randn(5, 3), randn(5, 3)
    index = torch.tensor([0, 3])

    def views(*x):
        return info_nce_views(x[0], x[1:], index, 0.5).square()

    def one_by_one(a, b, c):
        naive = [info_nce_naive(a, x, index, 0.5) for x in (b, c)]
        return sum(naive).square()

    assert_close(penalty(views, a, b, c), penalty(one_by_one, a, b, c))


@pytest.mark.parametrize('dtype', [torch.double, torch.half])
def test_triton_info_nce(dtype):
    pytest.importorskip('triton')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    query, candidates = randn(4, 3), randn(2, 6, 3)
    inputs = [
        x.detach().to(device, dtype).requires_grad_()
        for x in (query, candidates)
    ]
    index = torch.tensor([0, 2, 5, 5], device=device)
    weight = torch.rand(4, device=device).to(
        torch.promote_types(dtype, torch.float)
    )

    def naive(query, candidates):
        logits = torch.einsum('bf,vnf->vbn', query, candidates).double()
        logits = logits.transpose(1, 2)
        nll = F.cross_entropy(logits, index.expand(2, -1), reduction='none')
        return (weight * nll).sum()

    got = penalty(
        lambda q, c: info_nce_triton(q, c, index, weight, 5.0), *inputs
    )
    expected = penalty(
        naive, *(x.detach().double().requires_grad_() for x in inputs)
    )
    bound = 1e-7 if dtype == torch.double else 1e-2
    for x, y in zip(got, expected):
        assert_close(x.double(), y, rtol=bound, atol=bound)


@pytest.mark.parametrize('square', [DenseSquare(), GramSquare(), None])
def test_reconstruction(square):
    lists = CSR.from_edge_index(torch.tensor([[0, 0, 2], [1, 3, 0]]), (3, 4))
    feature = torch.randn(4, 2).double()
    square = square or SampledSquare(torch.rand(3).double() + 1, 5)

    def both(h, weight, bias):
        torch.manual_seed(1)
        error, projected = reconstruction(
            h, weight, bias, lists, feature, square
        )
        return error.square(), projected * error.view(-1, 1)

    assert gradgradcheck(both, (randn(3, 2), randn(4, 2), randn(4)))


def test_linear_operations():
    lists = CSR.from_edge_index(torch.tensor([[0, 0, 2], [1, 3, 0]]), (3, 4))
    signal, scale = torch.rand(3).double(), torch.rand(3).double()
    x = torch.randn(6, 4).float()

    def shared(weight):
        torch.manual_seed(1)
        out = diffused_linear_shared(lists, weight, signal, scale, 0.3, 2)
        return out.pow(3)

    assert gradgradcheck(shared, (randn(4, 2),))
    assert gradgradcheck(lambda w: gram(w).pow(2), (randn(4, 2),))
    assert gradgradcheck(
        lambda a, b: product(a, b).pow(3), (randn(3, 4), randn(4, 2))
    )
    assert gradgradcheck(
        lambda w, b: row_linear(x, w, b).pow(3), (randn(2, 4), randn(2))
    )
