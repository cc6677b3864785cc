import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.utils import features
from diffmm_geo.utils.features import center_and_scale, standardize


def standardized(x):
    mean, scale = center_and_scale(x)
    return (x.double() - mean) / scale


@pytest.mark.parametrize('dtype', [torch.half, torch.float, torch.double])
@pytest.mark.parametrize('block', [1, 20, 2**22])
def test_mean_and_root_mean_square(monkeypatch, dtype, block):
    monkeypatch.setattr(features, 'BLOCK_SIZE', block)
    x = (torch.randn(30, 4) * torch.tensor([1.0, 2, 3, 4]) + 7).to(dtype)
    out = standardized(x)
    assert_close(out.mean(dim=0), torch.zeros(4).double())
    assert out.square().mean().sqrt() == pytest.approx(1)
    # One number for all channels, so that their proportions stay.
    ratio, expected = (z.std(0) / z.std(0)[0] for z in (out, x.double()))
    assert_close(ratio, expected)


def test_shift_and_scale_do_not_matter():
    x = torch.randn(30, 4).double()
    for other in (1000 * x, x + 5, 1e-20 * x, 1e20 * x):
        assert_close(standardized(other), standardized(x))
    for value in (0.0, 0.1, -1e6, 1e-30):
        assert standardized(torch.full((50, 3), value)).abs().max() < 1e-5
    mean, scale = center_and_scale(torch.empty(0, 3))
    assert mean.equal(torch.zeros(3).double()) and float(scale) == 1


@pytest.mark.parametrize('dtype', [torch.half, torch.float, torch.double])
@pytest.mark.parametrize('block', [1, 64])
def test_standardize(monkeypatch, dtype, block):
    monkeypatch.setattr(features, 'BLOCK_CHANNELS', block)
    x = (torch.randn(30, 3) * torch.tensor([1.0, 2, 3]) + 7).to(dtype)
    x = torch.cat([x, torch.full((30, 1), 0.1, dtype=dtype)], dim=1)
    x[4] = 0.0
    rest = torch.arange(30) != 4
    y = x[rest].double()
    expected = torch.zeros(30, 4).double()
    expected[rest] = (y - y.mean(0)) / y.std(0, correction=0) / 2
    expected[:, 3] = 0.0  # It is constant.
    out = standardize(x)
    assert out.dtype == torch.promote_types(dtype, torch.float)
    assert_close(out, expected.to(out.dtype), rtol=1e-4, atol=1e-5)
    assert not standardize(torch.zeros_like(x)).any()
