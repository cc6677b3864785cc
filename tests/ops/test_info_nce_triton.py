import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.ops.info_nce.triton import info_nce_triton

triton = pytest.importorskip('triton')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
DTYPES = [torch.half, torch.bfloat16, torch.float, torch.double]


def naive(query, candidates, index, weight):
    logits = torch.einsum('bf,vnf->vbn', query, candidates)
    positive = logits[:, torch.arange(index.numel()), index]
    return (weight * (logits.logsumexp(-1) - positive)).sum()


def make(batch_size, num_nodes, channels, views, max_logit, dtype):
    query = F.normalize(torch.randn(batch_size, channels), dim=-1)
    candidates = F.normalize(torch.randn(views, num_nodes, channels), dim=-1)
    # A few anchors equal their positives, with probabilities near one.
    index = torch.randint(num_nodes, (batch_size,))
    query[::3] = candidates[0, index[::3]]
    weight = torch.rand(batch_size) / batch_size
    return (
        (query * max_logit).to(DEVICE, dtype).requires_grad_(),
        candidates.to(DEVICE, dtype).requires_grad_(),
        index.to(DEVICE).repeat_interleave(2)[::2],  # Not contiguous.
        weight.to(DEVICE, torch.promote_types(dtype, torch.float)),
    )


def compare(
    query, candidates, index, weight, max_logit, precision='ieee', scale=3.0
):
    dtype, inputs = query.dtype, (query, candidates)
    loss = info_nce_triton(*inputs, index, weight, max_logit, precision)
    grads = torch.autograd.grad(scale * loss, inputs)
    q, c = (x.detach().double().requires_grad_() for x in inputs)
    w = weight.double()
    expected = naive(q, c, index, w)
    expected_grads = torch.autograd.grad(scale * expected, [q, c])

    # Gradients are sums with cancellation, so the bound follows from their
    # terms, whose logits are rounded as well.
    eps = 16 * torch.finfo(loss.dtype).eps * (1 + max_logit)
    bound = scale * (2 * torch.finfo(dtype).eps + eps)
    # Subnormal terms may vanish.
    tiny = torch.finfo(dtype).tiny * torch.finfo(dtype).eps + 1e-30
    term = torch.einsum('bf,vnf->vbn', q, c).softmax(-1)
    term = term + F.one_hot(index, c.size(1))
    term = term * w.view(-1, 1)
    bounds = [
        torch.einsum('vbn,vnf->bf', term, c.abs()),
        torch.einsum('vbn,bf->vnf', term, q.abs()),
    ]
    assert loss.dtype == weight.dtype
    assert_close(
        loss.double(), expected, rtol=0.0, atol=eps * len(c) * float(w.sum())
    )
    for grad, out, size in zip(grads, expected_grads, bounds):
        assert grad.dtype == dtype
        error = (grad.double() - out).abs()
        assert (error <= bound * size + tiny).all(), (grad, out)


def set_programs(patch, number):
    from diffmm_geo.ops.info_nce import triton_kernels

    patch.setattr(triton_kernels, '_num_programs', lambda device: number)


@settings(deadline=None, max_examples=40)
@given(
    batch_size=st.integers(1, 70),
    num_nodes=st.integers(1, 150),
    channels=st.integers(1, 70),
    views=st.integers(1, 3),
    max_logit=st.sampled_from([0.5, 2.0, 200.0]),
    dtype=st.sampled_from(DTYPES),
    programs=st.integers(1, 50),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_naive(max_logit, programs, seed, **sizes):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        set_programs(patch, programs)
        compare(*make(**sizes, max_logit=max_logit), max_logit)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [128, 200, 300])
def test_many_channels(channels, dtype):
    compare(*make(40, 50, channels, 2, 10.0, dtype), 10.0)


@pytest.mark.parametrize(
    ('precision', 'channels'),
    [('tf32x3', 64), *(('tf32', c) for c in (64, 128, 200, 300))],
)
def test_precision(monkeypatch, precision, channels):
    if DEVICE == 'cuda':
        pytest.skip('needs the interpreter')
    from triton.runtime.interpreter import InterpreterBuilder

    # The interpreter computes in full precision.
    used, dot = set(), InterpreterBuilder.create_dot

    def spy(builder, a, b, c, chosen, *args):
        used.add(chosen.name.lower())
        return dot(builder, a, b, c, chosen, *args)

    monkeypatch.setattr(InterpreterBuilder, 'create_dot', spy)
    inputs = make(40, 50, channels, 1, 10.0, torch.float)
    compare(*inputs, 10.0, precision)
    assert used == {precision}


def test_many_splits(monkeypatch):
    # More partial sums than the second kernel loads at once.
    set_programs(monkeypatch, 50)
    compare(*make(3, 16 * 45, 4, 1, 2.0, torch.double), 2.0)


def test_small_probabilities_in_half_precision():
    # All candidates except the first have subnormal probabilities in float16,
    # even before the small weights. The scale is typical of gradient scaling.
    query, candidates, index, weight = make(64, 100, 16, 1, 1.0, torch.half)
    query = (15 * candidates[0, :1].detach()).repeat(64, 1).requires_grad_()
    index, weight = torch.zeros_like(index), 1e-3 * weight
    compare(query, candidates, index, weight, 15.0, scale=2.0**25)


@pytest.mark.parametrize('dtype', DTYPES)
def test_all_logits_far_below_zero(dtype):
    # Rows past the end must not contribute their logits of zero.
    _, candidates, index, weight = make(3, 1, 8, 1, 1.0, dtype)
    candidates = candidates.detach().repeat(1, 5, 1).requires_grad_()
    query = (-200 * candidates[0, :3].detach()).requires_grad_()
    compare(query, candidates, index, weight, 200.0)


@pytest.mark.parametrize('which', [0, 1])
def test_gradient_of_one_side_only(monkeypatch, which):
    from diffmm_geo.ops.info_nce import triton_kernels

    inputs = list(make(12, 20, 6, 2, 5.0, torch.double))
    expected = torch.autograd.grad(naive(*inputs), inputs[which])
    inputs[1 - which] = inputs[1 - which].detach()
    backward, sides = triton_kernels.info_nce_backward, []

    def spy(of_query, *args):
        sides.append(of_query)
        return backward(of_query, *args)

    monkeypatch.setattr(triton_kernels, 'info_nce_backward', spy)
    loss = info_nce_triton(*inputs, 5.0)
    assert_close(torch.autograd.grad(loss, inputs[which]), expected)
    assert sides == [which == 0]


@pytest.mark.parametrize('max_logit', [2.0, 200.0])
def test_zero_weights(max_logit):
    query, candidates, index, weight = make(4, 5, 3, 1, 2.0, torch.half)
    weight = torch.zeros_like(weight)
    loss = info_nce_triton(query, candidates, index, weight, max_logit)
    assert loss == 0
    for grad in torch.autograd.grad(loss, [query, candidates]):
        assert not grad.any()


def test_same_from_run_to_run(monkeypatch):
    set_programs(monkeypatch, 30)
    inputs = make(70, 150, 20, 2, 5.0, torch.float)
    runs = []
    for _ in range(2):
        loss = info_nce_triton(*inputs, 5.0)
        runs.append([loss, *torch.autograd.grad(loss, inputs[:2])])
    assert_close(*runs, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ('dtype', 'precision', 'match'),
    [
        (torch.float, 'ieee', "'query'"),
        (torch.float, 'tf32x3', "'query' .* 64 .*'tf32x3'.* 513"),
        (torch.bfloat16, 'tf32', "'precision' .*'tf32' .*bfloat16"),
    ],
)
def test_what_kernels_do_not_take(dtype, precision, match):
    inputs = make(2, 3, 513, 1, 2.0, dtype)
    with pytest.raises(ValueError, match=match):
        info_nce_triton(*inputs, 2.0, precision)
