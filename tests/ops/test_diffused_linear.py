import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops.diffused_linear import (
    diffused_linear_gram,
    diffused_linear_naive,
    diffused_linear_shared,
)
from diffmm_geo.sparse import CSR

ROWS, ITEMS, HIDDEN = 6, 40, 3


def shared(*args):
    return diffused_linear_shared(*args, num_noises=4)


def shared_by_few(*args):
    return diffused_linear_shared(*args, num_noises=30011)


@pytest.fixture
def inputs():
    edge_index = torch.stack(
        [torch.randint(ROWS - 1, (20,)), torch.randint(ITEMS, (20,))]
    ).unique(dim=1)
    return (
        CSR.from_edge_index(edge_index, (ROWS, ITEMS)),
        torch.randn(ITEMS, HIDDEN).double().requires_grad_(),
        torch.rand(ROWS).double() + 0.5,
        torch.rand(ROWS).double() + 0.5,
    )


def test_dense_with_given_noise(inputs):
    lists, weight, signal, noise_scale = inputs
    noise = torch.randn(ROWS, ITEMS).double()
    before = noise.clone()
    out = diffused_linear_naive(*inputs, 0.0, noise)
    x = (
        signal.view(-1, 1) * lists.dense(weight)
        + noise_scale.view(-1, 1) * noise
    )
    assert_close(out, x @ weight)
    assert noise.equal(before)
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert_close(grad, x.sum(0).view(-1, 1).expand(-1, HIDDEN))


@pytest.mark.parametrize('function', [diffused_linear_gram, shared_by_few])
def test_without_noise(inputs, function):
    lists, weight, signal, _ = inputs
    out = function(lists, weight, signal, torch.zeros(ROWS).double(), 0.0)
    x = signal.view(-1, 1) * lists.dense(weight)
    expected = (x @ weight).detach()
    assert_close(out, expected)
    (grad,) = torch.autograd.grad((out * expected).sum(), weight)
    assert_close(grad, x.t() @ expected)


def many(function, args, repeats=20000):
    r"""The mean and second moments of each row over many repeats, and the
    gradient of a quadratic function of them.
    """
    lists, weight, signal, noise_scale, p = args
    rows = torch.arange(ROWS).repeat(repeats)
    out = function(
        lists.take(rows), weight, signal[rows], noise_scale[rows], p
    ).view(repeats, ROWS, HIDDEN)
    mean = out.mean(dim=0)
    second = torch.einsum('nbi,nbj->bij', out, out) / repeats
    loss = (mean * mean.new_tensor([1.0, -2.0, 0.5])).sum() + second.sum()
    (grad,) = torch.autograd.grad(loss, weight)
    return mean.detach(), second.detach(), grad


@pytest.mark.parametrize('function', [diffused_linear_gram, shared_by_few])
@pytest.mark.parametrize('p', [0.0, 0.5])
def test_same_law_as_dense(inputs, function, p):
    args = *inputs, p
    for got, expected in zip(
        many(function, args), many(diffused_linear_naive, args)
    ):
        assert float((got - expected).norm() / expected.norm()) < 0.1


def test_rows_share_noise(inputs):
    lists, weight, signal, noise_scale = inputs
    none = CSR.from_edge_index(torch.empty(2, 0).long(), (ROWS, ITEMS))
    ones = torch.ones(ROWS).double()
    out = shared(none, weight, signal, ones, 0.5)
    assert_close(out[:2], out[4:])
    assert not out[0].equal(out[1])
    # With enough draws, rows share none.
    out = diffused_linear_shared(none, weight, signal, ones, 0.5, 99)
    assert out.unique(dim=0).size(0) == ROWS


@pytest.mark.parametrize(
    'function', [diffused_linear_naive, diffused_linear_gram, shared]
)
def test_autocast(inputs, function):
    lists, weight, signal, noise_scale = inputs
    weight = weight.detach().float().requires_grad_()
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast('cpu', torch.bfloat16, enabled):
            out = function(
                lists, weight, signal.float(), noise_scale.float(), 0.5
            )
        found.append([out, *torch.autograd.grad(out.sum(), weight)])
    for expected, x in zip(*found):
        assert x.dtype == torch.float
        assert float((x - expected).norm() / expected.norm()) < 2e-2
