import pytest
import torch
import torch.nn.functional as F

from diffmm_geo.ops import row_linear as module
from diffmm_geo.ops.row_linear import row_linear


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('with_bias', [False, True])
@pytest.mark.parametrize('rows', [0, 10])
def test_blocks_are_the_whole(monkeypatch, dtype, with_bias, rows):
    monkeypatch.setattr(module, 'BLOCK_SIZE', 12)  # Three rows at a time.
    x = torch.randn(rows, 4).to(dtype)
    weight = torch.randn(5, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True) if with_bias else None
    grad = torch.randn(rows, 5)
    inputs = [weight] if bias is None else [weight, bias]

    expected = F.linear(x.float(), weight, bias)
    out = row_linear(x, weight, bias)
    assert out.dtype == torch.float
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
    )
