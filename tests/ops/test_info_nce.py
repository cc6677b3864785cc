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
from tests.wrong_values import wrong_values

PACKAGE = sys.modules['diffmm_geo.ops.info_nce']
BLOCKWISE = sys.modules['diffmm_geo.ops.info_nce.blockwise']


def views_of(num_nodes, channels=3):
    return [
        torch.randn(num_nodes, channels).double().requires_grad_()
        for _ in range(2)
    ]


def assert_same(loss, expected, views):
    assert_close(loss, expected)
    # The incoming gradient is not one.
    grads = torch.autograd.grad(3 * loss, views)
    assert_close(grads, torch.autograd.grad(3 * expected, views))


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 12),
    st.integers(1, 20),
    st.integers(1, 5),
    st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    st.integers(1, 40),
    st.integers(1, 13),
    st.integers(0, 2**16),
)
def test_agrees_with_naive(
    num_nodes, batch_size, channels, temperature, block, width, seed
):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BLOCKWISE, 'BLOCK_BYTES', 8 * block)
        patch.setattr(BLOCKWISE, 'MAX_CANDIDATES', width)
        views = views_of(num_nodes, channels)
        index = torch.randint(num_nodes, (batch_size,))
        loss = info_nce(*views, index, temperature)
        expected = PACKAGE.info_nce_naive(*views, index, temperature)
        assert_same(loss, expected, views)


@pytest.mark.parametrize('which', [0, 1])
def test_gradient_of_one_side_only(which):
    views = [torch.randn(6, 3).double() for _ in range(2)]
    index = torch.tensor([1, 4])
    views[which].requires_grad_()
    (grad,) = torch.autograd.grad(info_nce(*views, index, 0.5), [views[which]])
    (expected,) = torch.autograd.grad(
        PACKAGE.info_nce_naive(*views, index, 0.5), [views[which]]
    )
    assert_close(grad, expected)


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

    # It is an unbiased estimate of the sum over nodes.
    anchor, candidate = (F.normalize(v.detach(), dim=-1) for v in views)
    logits = anchor[index[:1]] @ candidate.t() / temperature
    norm = logits.exp().sum()
    drawn = torch.stack(
        [
            (info_nce(anchor, candidate, index[:1], temperature, 20)).exp()
            * logits[0, 0].exp()
            for _ in range(4000)
        ]
    )
    assert_close(drawn.mean(), norm, rtol=0.1, atol=0.0)
    assert float(drawn.std()) > 0
    # The sum includes the positive.
    assert bool((drawn >= logits[0, 0].exp() * 0.999).all())


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


def test_single_node_has_no_others():
    x = torch.randn(1, 3, requires_grad=True)
    loss = info_nce(x, x, torch.tensor([0]), 0.5, 1)
    assert_close(loss, torch.tensor(0.0))


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


def test_zero_rows_are_finite():
    x = torch.zeros(4, 3, requires_grad=True)
    loss = info_nce(x, x, torch.arange(4), 0.5)
    loss.backward()
    assert_close(loss, torch.tensor(4.0).log())
    assert x.grad.isfinite().all()


def test_half_precision():
    x, y = torch.randn(8, 4), torch.randn(8, 4)
    index = torch.arange(8)
    out = info_nce(x.bfloat16(), y.bfloat16(), index)
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), info_nce(x, y, index), rtol=2e-2, atol=2e-2)


@wrong_values(
    anchor=[torch.ones(4, 3, dtype=torch.long)],
    candidate=[torch.randn(5, 3), torch.randn(4, 2)],
    index=[torch.tensor(x) for x in ([4], [-1], [0.5])] + [torch.arange(0)],
    temperature=[0.0, float('nan')],
    num_candidates=[0],
    precision=['fp16'],
)
def test_bad_input(name, value):
    args = {
        'anchor': torch.randn(4, 3),
        'candidate': torch.randn(4, 3),
        'index': torch.tensor([0]),
        'temperature': 0.5,
    }
    info_nce(**args)
    with pytest.raises(ValueError, match=f"'{name}'"):
        info_nce(**{**args, name: value})


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
    terms = [
        info_nce_views(t.anchor, t.candidates, t.index, 0.5, 4) for t in types
    ]
    assert_same(info_nce_types(types, 0.5, 4), sum(terms), inputs)
