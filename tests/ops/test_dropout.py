import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops.dropout import dropout


@pytest.mark.parametrize('p', [0.1, 0.5, 0.9])
@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_share_and_scale(p, dtype):
    x = torch.ones(501, 403, dtype=dtype)
    out = dropout(x, p)
    assert out.dtype == dtype
    kept = out != 0
    # Six standard deviations.
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 6 * spread
    # The probability to keep is a multiple of 2^-16.
    rtol = max(2**-16 / (1 - p), torch.finfo(dtype).eps)
    expected = torch.full_like(out[kept], 1 / (1 - p))
    assert_close(out[kept], expected, rtol=rtol, atol=0.0)


def test_elements_are_independent():
    # Neighbors, and elements that share a word of bits.
    kept = (dropout(torch.ones(2**18), 0.5) != 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 8):
        correlation = float((kept[lag:] * kept[:-lag]).mean()) * 4
        assert abs(correlation) < 6 / 2**9
    # Positions in a word have equal rates.
    assert_close(
        kept.view(-1, 4).mean(0), torch.zeros(4).double(), atol=0.012, rtol=0
    )


def test_gradient_is_that_of_the_kept():
    x = torch.randn(7, 5, requires_grad=True)
    out = dropout(x, 0.5)
    out.sum().backward()
    assert x.grad.equal((out != 0) * 2.0)


def test_bounds_and_sizes():
    x = torch.randn(3, 5)
    assert dropout(x, 0.0).equal(x)
    assert dropout(x, 1.0).equal(torch.zeros(3, 5))
    for y in (x[:0], x.t()):
        assert dropout(y, 0.5).size() == y.size()
