import sys

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops.dense import matmul, product

MODULE = sys.modules['diffmm_geo.ops.dense']
SIZES = [(3, 4, 5), (1, 1, 1), (130, 70, 90)]


@pytest.fixture(params=[False, True])
def onednn(request, monkeypatch):
    if request.param and not hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        pytest.skip('torch is without oneDNN')
    monkeypatch.setattr(MODULE, 'prefers_onednn', lambda: request.param)
    monkeypatch.setattr(MODULE, 'MIN_ONEDNN_FLOPS', 0)


@pytest.mark.parametrize('n,k,m', SIZES)
@pytest.mark.parametrize('transposed', [False, True])
def test_matmul(onednn, n, k, m, transposed):
    a, b, bias = torch.randn(n, k), torch.randn(k, m), torch.randn(m)
    if transposed:
        a, b = a.t().contiguous().t(), b.t().contiguous().t()
    expected = (a.double() @ b.double()).float()
    assert_close(matmul(a, b), expected, rtol=1e-5, atol=1e-4)
    assert_close(matmul(a, b, bias), expected + bias, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('n,k,m', SIZES)
def test_product(onednn, n, k, m):
    a = torch.randn(n, k, requires_grad=True)
    b = torch.randn(k, m, requires_grad=True)
    weight = torch.randn(n, m)
    out, expected = product(a, b), a @ b
    assert_close(out, expected, rtol=1e-5, atol=1e-4)
    assert_close(
        torch.autograd.grad((out * weight).sum(), [a, b]),
        torch.autograd.grad((expected * weight).sum(), [a, b]),
        rtol=1e-5,
        atol=1e-4,
    )


def test_autocast():
    a = torch.randn(8, 40, requires_grad=True)
    b = torch.randn(40, 8)
    with torch.autocast('cpu', torch.bfloat16):
        out = product(a, b)
        double = product(a.double(), b.double())
    assert out.dtype == torch.float
    assert double.dtype == torch.double  # As autocast leaves it, too.
    assert out.equal((a.bfloat16() @ b.bfloat16()).float())
    assert not out.equal(a @ b)
    out.sum().backward()
    assert a.grad.dtype == torch.float
