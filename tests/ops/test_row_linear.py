import pytest
import torch
import torch.nn.functional as F

from diffmm_geo.ops import row_linear as module
from diffmm_geo.ops.row_linear import row_linear


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('with_bias', [False, True])
def test_blocks_are_the_whole(monkeypatch, dtype, with_bias):
    monkeypatch.setattr(module, 'BLOCK_SIZE', 12)  # Three rows at a time.
    x = torch.randn(10, 4).to(dtype)
    weight = torch.randn(5, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True) if with_bias else None
    grad = torch.randn(10, 5)
    inputs = [weight] if bias is None else [weight, bias]

    expected = F.linear(x.float(), weight, bias)
    out = row_linear(x, weight, bias)
    assert out.dtype == torch.float
    torch.testing.assert_close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
    ):
        torch.testing.assert_close(a, b)


def test_no_rows():
    weight = torch.randn(5, 4, requires_grad=True)
    out = row_linear(torch.empty(0, 4, dtype=torch.half), weight)
    out.sum().backward()
    assert out.size() == (0, 5) and not weight.grad.any()
