import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.ops.dense import unit_rows

# A row shorter than the bound is divided by a constant.
LENGTHS = [1.0, 0.0, 1e-13, 3.0]


def rows(dtype):
    torch.manual_seed(0)
    x = torch.randn(4, 7).double() * torch.tensor(LENGTHS).view(-1, 1)
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize('dtype', [torch.double, torch.float])
def test_gradient_of_normalize(dtype):
    x, weight = rows(dtype), torch.randn(4, 7, dtype=dtype)
    out, expected = unit_rows(x), F.normalize(x, dim=-1)
    assert out.equal(expected)
    (grad,) = torch.autograd.grad(out, x, weight)
    assert_close(grad, torch.autograd.grad(expected, x, weight)[0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.half])
def test_half_precision(dtype):
    x = rows(dtype)
    out = unit_rows(x)
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(x))
    assert out.dtype == grad.dtype == dtype
    assert out.isfinite().all() and grad[[0, 1, 3]].isfinite().all()


def test_saves_nothing_but_outputs():
    x = rows(torch.float)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        out = unit_rows(x)
    assert [tuple(t.size()) for t in kept] == [(4, 7), (4, 1)]
    assert kept[0].equal(out)
