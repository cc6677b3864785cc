import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.ops.info_nce.triton import info_nce_triton

triton = pytest.importorskip('triton')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
ROOT = Path(__file__).parents[2]
DTYPES = [torch.half, torch.bfloat16, torch.float, torch.double]
# Of tensor cores, by architecture.
PRODUCTS = {80: 'mma.sync', 90: 'wgmma.mma_async', 100: 'tcgen05.mma'}


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
        index.to(DEVICE),
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
def test_agrees_with_naive(
    batch_size, num_nodes, channels, views, max_logit, dtype, programs, seed
):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        set_programs(patch, programs)
        inputs = make(batch_size, num_nodes, channels, views, max_logit, dtype)
        compare(*inputs, max_logit)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [128, 200, 300])
def test_many_channels(channels, dtype):
    compare(*make(40, 50, channels, 2, 10.0, dtype), 10.0)


@pytest.mark.parametrize(
    ('precision', 'channels'),
    [('tf32x3', 64), *(('tf32', c) for c in (64, 128, 200, 300))],
)
def test_precision(monkeypatch, precision, channels):
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


def test_all_anchors_alike():
    query, candidates, index, weight = make(20, 9, 5, 2, 5.0, torch.double)
    compare(query, candidates, torch.full_like(index, 8), weight, 5.0)


def test_not_contiguous():
    query, candidates, index, weight = make(20, 30, 6, 2, 5.0, torch.double)
    inputs = [
        query.detach().t().contiguous().t(),
        candidates.detach().transpose(0, 2).contiguous().transpose(0, 2),
        index.repeat_interleave(2)[::2],
        weight.repeat_interleave(2)[::2],
    ]
    assert not any(x.is_contiguous() for x in inputs)
    compare(*(x.requires_grad_() for x in inputs[:2]), *inputs[2:], 5.0)


def test_mixed_types():
    query, candidates, index, weight = make(5, 6, 4, 1, 2.0, torch.float)
    half = query.detach().half().requires_grad_()
    loss = info_nce_triton(half, candidates, index, weight, 2.0)
    grad = torch.autograd.grad(loss, [half, candidates])
    assert loss.dtype == torch.float
    assert [g.dtype for g in grad] == [torch.half, torch.float]


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


def test_weights_get_no_gradient():
    query, candidates, index, weight = make(4, 5, 3, 1, 2.0, torch.double)
    weight.requires_grad_()
    loss = info_nce_triton(query, candidates, index, weight, 2.0)
    (grad,) = torch.autograd.grad(loss, [weight], allow_unused=True)
    assert grad is None


@pytest.mark.parametrize('max_logit', [2.0, 200.0])
def test_zero_weights_and_no_anchors(max_logit):
    query, candidates, index, weight = make(4, 5, 3, 1, 2.0, torch.half)
    for chosen in (slice(None), slice(0)):
        loss = info_nce_triton(
            query[chosen],
            candidates,
            index[chosen],
            torch.zeros_like(weight[chosen]),
            max_logit,
        )
        for grad in torch.autograd.grad(loss, [query, candidates]):
            assert_close(grad, torch.zeros_like(grad))
        assert loss == 0


def test_same_from_run_to_run(monkeypatch):
    set_programs(monkeypatch, 30)
    inputs = make(70, 150, 20, 2, 5.0, torch.float)
    runs = []
    for _ in range(2):
        loss = info_nce_triton(*inputs, 5.0)
        runs.append([loss, *torch.autograd.grad(loss, inputs[:2])])
    assert_close(*runs, rtol=0.0, atol=0.0)


def test_bad_input():
    inputs = make(2, 3, 513, 1, 2.0, torch.float)
    with pytest.raises(ValueError, match="'query'"):
        info_nce_triton(*inputs, 2.0)
    with pytest.raises(ValueError, match="'precision'"):
        info_nce_triton(*inputs, 2.0, precision='fp16')
    with pytest.raises(ValueError, match="'query' .* 64 .*'tf32x3'.* 513"):
        info_nce_triton(*inputs, 2.0, precision='tf32x3')
    with pytest.raises(ValueError, match="'precision' .*'tf32' .*bfloat16"):
        info_nce_triton(
            *(x.bfloat16() for x in inputs[:2]), *inputs[2:], 2.0, 'tf32'
        )


FACTS = {}  # Of each compilation.


class Compiled:
    r"""Replaces a kernel: compiles it instead of launching it."""

    def __init__(self, kernel, arch, facts):
        self.kernel, self.arch, self.facts = kernel, arch, facts

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, **kwargs):

        names = self.kernel.arg_names
        values = {**dict(zip(names, args)), **kwargs}
        # Launches turn arguments of one into constants.
        constants = {
            k: v
            for k, v in values.items()
            if k in names and (k in kwargs or (type(v) is int and v == 1))
        }
        types = {
            torch.half: '*fp16',
            torch.bfloat16: '*bf16',
            torch.float: '*fp32',
            torch.double: '*fp64',
            torch.long: '*i64',
        }
        signature, divisible = {}, {}
        for i, name in enumerate(names):
            value = values[name]
            if name in constants:
                signature[name] = 'constexpr'
            elif isinstance(value, torch.Tensor):
                signature[name] = types[value.dtype]
                divisible[(i,)] = [['tt.divisibility', 16]]
            else:
                signature[name] = 'i32'
                if value % 16 == 0:
                    divisible[(i,)] = [['tt.divisibility', 16]]
        # Some cases share a kernel.
        kind = (self.kernel.__name__, self.arch, signature)
        key = repr((*kind, constants, divisible, kwargs))
        if key not in FACTS:
            FACTS[key] = self.compile(signature, constants, divisible, kwargs)
        self.facts.append(FACTS[key])

    def compile(self, signature, constants, divisible, kwargs):
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names, log = self.kernel.arg_names, io.StringIO()
        with contextlib.redirect_stdout(log):
            out = triton.compile(
                ASTSource(self.kernel, signature, constants, divisible),
                target=GPUTarget('cuda', self.arch, 32),
                options={k: v for k, v in kwargs.items() if k not in names},
            )
        spills = re.search(r'(\d+) bytes spill stores', log.getvalue())
        registers = re.search(r'Used (\d+) registers', log.getvalue())
        return {
            'name': self.kernel.__name__,
            **{p: p in out.asm['ptx'] for p in PRODUCTS.values()},
            'spills': int(spills[1]),
            'registers': int(registers[1]),
            'shared': out.metadata.shared,
        }


def compile_kernels(
    arch, dtype, channels, precision, batch_size=70, num_nodes=150, views=2
):
    from diffmm_geo.ops.info_nce import triton_kernels

    sizes, facts = (batch_size, num_nodes, channels, views), []
    inputs = [x.detach() for x in make(*sizes, 2.0, getattr(torch, dtype))]
    with pytest.MonkeyPatch.context() as patch:
        for name in ('_sum_exp', '_finish', '_grad'):
            kernel = getattr(triton_kernels, name)
            patch.setattr(triton_kernels, name, Compiled(kernel, arch, facts))
        for online in (False, True):
            _, lse = triton_kernels.info_nce_forward(*inputs, online, precision)
        scale = lse.new_ones(())
        for of_query in (False, True):
            triton_kernels.info_nce_backward(
                of_query, *inputs, lse, scale, precision
            )
    return facts


# Architecture, type, channels and precision.
COMPILED = [
    (90, 'bfloat16', 64, 'ieee'),
    (90, 'float16', 64, 'ieee'),
    (90, 'float32', 64, 'ieee'),
    (90, 'float32', 64, 'tf32x3'),
    *((90, 'float32', c, 'tf32') for c in (64, 128, 256, 512)),
    (90, 'float64', 64, 'ieee'),
    (90, 'bfloat16', 256, 'tf32x3'),
    (90, 'bfloat16', 304, 'ieee'),
    (90, 'float32', 256, 'ieee'),
    (80, 'bfloat16', 64, 'ieee'),
    (100, 'bfloat16', 64, 'ieee'),
]
# With sizes of one, which launches turn into constants.
ONES = (90, 'bfloat16', 1, 'ieee', 1, 1, 1)


def main():
    report = {repr(c): compile_kernels(*c) for c in [*COMPILED, ONES]}
    print(json.dumps(report))


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    r"""What the compiler tells of the kernels of each case. It runs in its own
    process, where kernels are not interpreted.
    """
    env = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    env['TRITON_CACHE_DIR'] = str(tmp_path_factory.mktemp('triton'))
    env['TRITON_ALWAYS_COMPILE'] = env['TRITON_DUMP_PTXAS_LOG'] = '1'
    code = 'from tests.ops import test_info_nce_triton as t; t.main()'
    out = subprocess.run(
        [sys.executable, '-W', 'error:TRITON', '-c', code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.parametrize('case', COMPILED, ids=str)
def test_compiles(report, case):
    (arch, dtype, channels, precision), facts = case, report[repr(case)]
    assert [f['name'] for f in facts] == [
        *['_sum_exp', '_finish'] * 2,
        *['_grad'] * 2,
    ]
    for fact in facts:
        assert fact['spills'] <= (0 if channels <= 256 else 16), facts
        assert fact['shared'] < 99 * 1024 or dtype == 'float64', facts
        if fact['name'] == '_finish' or dtype == 'float64':
            continue
        if (channels > 256 and dtype != 'float32') or (
            channels > 128 and precision == 'tf32'
        ):
            assert fact['mma.sync'], facts
        elif dtype != 'float32' or precision != 'ieee':
            assert fact[PRODUCTS[arch]], facts


def test_compiles_for_one_of_each(report):
    assert len(report[repr(ONES)]) == 6
