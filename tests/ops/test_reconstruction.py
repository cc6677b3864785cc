import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.ops.reconstruction import reconstruction, reconstruction_naive
from diffmm_geo.ops.reconstruction.square import (
    DenseSquare,
    GramSquare,
    SampledSquare,
    systematic_sample,
)
from diffmm_geo.sparse import CSR


class Case:
    def __init__(self, rows, items, hidden, channels, edges, seed=0):
        torch.manual_seed(seed)
        edge_index = torch.stack(
            [torch.randint(rows, (edges,)), torch.randint(items, (edges,))]
        ).unique(dim=1)
        self.lists = CSR.from_edge_index(edge_index, (rows, items))
        self.weights = [
            torch.randn(rows, hidden).double().requires_grad_(),
            torch.randn(items, hidden).double().requires_grad_(),
            torch.randn(items).double().requires_grad_(),
        ]
        self.feature = torch.randn(items, channels).double()
        self.scale = torch.rand(rows).double(), torch.randn(rows, channels)

    def run(self, function, *args):
        out = function(*self.weights, self.lists, self.feature, *args)
        total = sum((x * y).sum() for x, y in zip(out, self.scale))
        return *out, *torch.autograd.grad(total, self.weights)


@pytest.mark.parametrize('square', [DenseSquare(), GramSquare(), None])
@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 7),
    items=st.integers(1, 9),
    hidden=st.integers(1, 6),
    channels=st.integers(0, 3),
    edges=st.integers(0, 20),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_naive(square, rows, **sizes):
    case = Case(rows, **sizes)
    if square is None:  # A sample of all.
        square = SampledSquare(torch.ones(rows).double(), rows + 3)
    assert_close(
        case.run(reconstruction, square), case.run(reconstruction_naive)
    )


def test_sample_is_unbiased():
    case = Case(6, 8, 4, 2, 15)
    importance = torch.tensor([0.1, 1.0, 2.0, 0.5, 5.0, 0.0]).double()
    case.scale[0][5] = 0.0  # What weighs nothing is never drawn.
    expected = case.run(reconstruction_naive)
    mean = [torch.zeros_like(x) for x in expected]
    repeats = 2000
    for _ in range(repeats):
        square = SampledSquare(importance, 3)
        for total, x in zip(mean, case.run(reconstruction, square)):
            total += x / repeats
    assert_close(mean[1], expected[1])  # Not estimated.
    mean[0], expected = mean[0][:5], [expected[0][:5], *expected[1:]]
    for out, exact in zip(mean, expected):
        error = (out - exact).norm() / exact.norm()
        assert float(error.detach()) < 0.1


def test_systematic_sample_counts():
    importance = torch.tensor([1.0, 0.0, 4.0, 3.0, 8.0])
    for _ in range(50):
        drawn, share = systematic_sample(importance, 8)
        count = torch.bincount(drawn, minlength=5)
        # The expected count is half of the weight.
        assert bool(((count - importance / 2).abs() < 1).all())
        assert_close(share, 2 / importance[drawn])


@pytest.mark.parametrize(
    'square', [DenseSquare(), GramSquare(), SampledSquare(torch.ones(9), 9)]
)
def test_autocast(square):
    case = Case(9, 20, 30, 3, 40)
    expected = case.run(reconstruction_naive)
    case.weights = [x.detach().float().requires_grad_() for x in case.weights]
    case.feature = case.feature.float()
    with torch.autocast('cpu', torch.bfloat16):
        out = case.run(reconstruction, square)
    for x, exact in zip(out, expected):
        assert x.dtype == torch.float
        assert float((x - exact).norm() / exact.norm()) < 2e-2
