import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.nn import info_nce
from diffmm_geo.ops import backend
from diffmm_geo.ops.info_nce import Nodes, info_nce_types, info_nce_views

PACKAGE = sys.modules['diffmm_geo.ops.info_nce']
BLOCKWISE = sys.modules['diffmm_geo.ops.info_nce.blockwise']


def views_of(num_nodes, channels=3, with_gradients=(True, True)):
    return [
        torch.randn(num_nodes, channels).double().requires_grad_(required)
        for required in with_gradients
    ]


def assert_same(loss, expected, views):
    assert_close(loss, expected)
    views = [x for x in views if x.requires_grad]
    # The incoming gradient is not one.
    grads = torch.autograd.grad(3 * loss, views)
    assert_close(grads, torch.autograd.grad(3 * expected, views))


@settings(deadline=None, max_examples=60)
@given(
    num_nodes=st.integers(1, 12),
    batch_size=st.integers(1, 20),
    temperature=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    block=st.integers(1, 40),
    width=st.integers(1, 13),
    seed=st.integers(0, 2**16),
    channels=st.integers(1, 5),
    with_gradients=st.sampled_from(
        [(True, True), (True, False), (False, True)]
    ),
)
def test_agrees_with_naive(
    num_nodes, batch_size, temperature, block, width, seed, **kwargs
):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BLOCKWISE, 'BLOCK_BYTES', 8 * block)
        patch.setattr(BLOCKWISE, 'MAX_CANDIDATES', width)
        views = views_of(num_nodes, **kwargs)
        index = torch.randint(num_nodes, (batch_size,))
        loss = info_nce(*views, index, temperature)
        expected = PACKAGE.info_nce_naive(*views, index, temperature)
        assert_same(loss, expected, views)


@pytest.mark.parametrize('temperature', [1e-3, 1e-2])
def test_low_temperature_does_not_overflow(temperature):
    # exp(1 / 1e-2) is beyond float32.
    anchor, candidate = torch.randn(30, 4), torch.randn(30, 4)
    anchor.requires_grad_()
    index = torch.arange(30)
    loss = info_nce(anchor, candidate, index, temperature)
    loss.backward()
    expected = PACKAGE.info_nce_naive(
        anchor.double(), candidate.double(), index, temperature
    )
    assert_close(loss.double(), expected, rtol=1e-4, atol=1e-4)
    assert anchor.grad.isfinite().all()


@pytest.mark.parametrize('temperature', [0.02, 0.5])
def test_drawn_candidates(temperature):
    torch.manual_seed(1)
    views = views_of(40)
    index = torch.tensor([0, 3, 3, 39])
    exact = info_nce(*views, index, temperature)
    for number in (40, 50):
        assert info_nce(*views, index, temperature, number).equal(exact)

    # It is an unbiased estimate of the sum over nodes, with the positive.
    anchor, candidate = (F.normalize(v.detach(), dim=-1) for v in views)
    terms = (anchor[index[:1]] @ candidate.t() / temperature).exp()
    drawn = terms[0, 0] * torch.stack(
        [
            info_nce(anchor, candidate, index[:1], temperature, 20).exp()
            for _ in range(4000)
        ]
    )
    assert_close(drawn.mean(), terms.sum(), rtol=0.1, atol=0.0)
    assert float(drawn.std()) > 0
    assert bool((drawn >= terms[0, 0] * 0.999).all())


@pytest.mark.parametrize('temperature', [0.01, 0.5])
def test_gradient_of_drawn_candidates(monkeypatch, temperature):
    views = sys.modules['diffmm_geo.ops.info_nce.views']
    drawn = torch.tensor([2, 5, 0, 6])
    monkeypatch.setattr(views, '_draw', lambda *_: drawn)
    monkeypatch.setattr(BLOCKWISE, 'MAX_CANDIDATES', 3)
    x, y = views_of(7)
    index = torch.tensor([0, 6, 6, 3])

    def expected(x, y):
        x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
        total = 0
        for n in index.tolist():
            others = [int(j) for j in drawn if j != n]
            logits = x[n] @ y.t() / temperature
            scale = torch.tensor(6 / len(others)).log()
            terms = torch.stack(
                [logits[n], *(logits[j] + scale for j in others)]
            )
            total = total + terms.logsumexp(0) - logits[n]
        return total / index.numel()

    loss = info_nce(x, y, index, temperature, 4)
    assert_same(loss, expected(x, y), [x, y])


def test_autocast():
    x, y = torch.randn(300, 16), torch.randn(300, 16)
    x.requires_grad_()
    index = torch.arange(0, 300, 3)
    expected = info_nce(x, y, index)
    (exact,) = torch.autograd.grad(expected, x)
    with torch.autocast('cpu', torch.bfloat16):
        loss = info_nce(x, y, index)
    (grad,) = torch.autograd.grad(loss, x)
    assert loss.dtype == grad.dtype == torch.float
    assert_close(loss, expected, rtol=1e-3, atol=1e-3)
    assert float((grad - exact).norm() / exact.norm()) < 2e-2


@pytest.mark.parametrize(('num_nodes', 'number'), [(4, None), (1, 1)])
def test_equal_nodes(num_nodes, number):
    r"""The loss is the logarithm of their number, also where all are zero."""
    x = torch.zeros(num_nodes, 3, requires_grad=True)
    loss = info_nce(x, x, torch.arange(num_nodes), 0.5, number)
    loss.backward()
    assert_close(loss, torch.tensor(float(num_nodes)).log())
    assert x.grad.isfinite().all()


def test_half_precision():
    x, y = torch.randn(8, 4), torch.randn(8, 4)
    index = torch.arange(8)
    out = info_nce(x.bfloat16(), y.bfloat16(), index)
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), info_nce(x, y, index), rtol=2e-2, atol=2e-2)


def test_precision_of_triton_only(monkeypatch):
    pytest.importorskip('triton')
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    used = []
    views = sys.modules['diffmm_geo.ops.info_nce.views']
    monkeypatch.setattr(
        views, 'info_nce_triton', lambda *args: used.append(args[-1]) or args[3]
    )
    x, index = torch.randn(4, 3), torch.tensor([0, 2])
    info_nce(x, x, index, backend='triton')
    info_nce(x, x, index, backend='triton', precision='tf32')
    with backend('triton'):
        info_nce(x, x, index, precision='tf32x3')
    assert used == ['ieee', 'tf32', 'tf32x3']
    message = "'precision' .* backend='triton' .*'tf32' .*'blockwise'"
    for name in (None, 'blockwise'):
        with pytest.raises(ValueError, match=message):
            info_nce(x, x, index, backend=name, precision='tf32')


@pytest.mark.parametrize('sizes', [(9, 12), (9, 4), (3, 4)])
@pytest.mark.parametrize('width', [3, 100])
def test_node_types_together(monkeypatch, sizes, width):
    # The second has all four nodes as candidates.
    views = sys.modules['diffmm_geo.ops.info_nce.views']
    monkeypatch.setattr(views, '_draw', lambda _, size, device: torch.arange(4))
    monkeypatch.setattr(BLOCKWISE, 'MAX_CANDIDATES', width)
    monkeypatch.setattr(BLOCKWISE, 'BLOCK_BYTES', 100)
    types = []
    for size in sizes:
        x = [torch.randn(size, 3).double().requires_grad_() for _ in range(3)]
        index = torch.randint(size, (5,))
        types.append(Nodes(x[0], x[1:], index))
    inputs = [x for t in types for x in (t.anchor, *t.candidates)]
    terms = [info_nce_views(t, 0.5, 4) for t in types]
    assert_same(info_nce_types(types, 0.5, 4), sum(terms), inputs)
