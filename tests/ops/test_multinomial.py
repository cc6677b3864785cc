import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops.multinomial import (
    multinomial,
    multinomial_naive,
    sampled_columns,
)
from diffmm_geo.sparse import CSR

B, I, H, F = 7, 11, 4, 3


@pytest.fixture
def inputs():
    x = torch.rand(B, I) < 0.4
    x[2] = False
    lists = CSR.from_edge_index(x.nonzero().t(), (B, I))
    shapes = (B, H), (I, H), (I,)
    tensors = [torch.randn(s).double().requires_grad_() for s in shapes]
    return *tensors, lists, torch.randn(I, F).double()


def run(function, inputs):
    out = function(*inputs)
    total = sum((x * torch.arange(x.numel()).view(x.size())).sum() for x in out)
    return *out, *torch.autograd.grad(total, inputs[:3])


@pytest.mark.parametrize('block', [1, 3 * I, 2**24])
@pytest.mark.parametrize('channels', [0, F])
def test_agrees_with_naive(inputs, monkeypatch, block, channels):
    # The package exports a function under the name of this module.
    monkeypatch.setitem(multinomial.__globals__, 'BLOCK_SIZE', block)
    inputs = *inputs[:4], inputs[4][:, :channels]
    expected = run(multinomial_naive, inputs)
    assert_close(run(multinomial, inputs), expected)


def test_all_columns_are_exact(inputs):
    columns = sampled_columns(inputs[3], I)
    assert sorted(columns[0].tolist()) == list(range(I))
    assert columns[1].equal(torch.zeros(I))


def test_sampled_columns():
    lists = CSR.from_edge_index(torch.tensor([[0, 0, 1], [3, 8, 3]]), (2, 10))
    index, log_weight = sampled_columns(lists, 4)
    assert index[:2].tolist() == [3, 8]
    assert len(set(index.tolist())) == 6
    weights = log_weight.exp()
    assert weights[:2].tolist() == [1, 1]
    assert_close(weights[2:], torch.full((4,), 2.0))
    assert sampled_columns(lists, 0)[0].tolist() == [3, 8]


def test_sampled_sum_is_unbiased(inputs):
    h, weight, bias, lists, _ = inputs
    lists, logit = (
        lists.take(torch.tensor([0])),
        (weight @ h[0] + bias).detach(),
    )
    total = 0.0
    for _ in range(4000):
        index, log_weight = sampled_columns(lists, 2)
        total += float((logit[index] + log_weight).exp().sum()) / 4000
    assert total == pytest.approx(float(logit.exp().sum()), rel=0.05)
