import pytest
import torch

from benchmarks.graphs import power_law
from diffmm_geo.ops import available_backends, default_backend, propagate
from diffmm_geo.ops.bipartite_adj import BipartiteAdj

DTYPES = (torch.float, torch.half, torch.bfloat16)


@pytest.fixture(params=['default', 'triton'])
def backend(request, device):
    name = request.param
    if name == 'default':
        name = default_backend(device)
    if name not in available_backends(device):
        pytest.skip(f"'{name}' is not available on '{device}'")
    return name


@pytest.fixture
def make_adj(device, is_large):
    sizes = (3001, 2003, 60_000) if is_large else (61, 43, 500)

    def make(kind):
        adj = BipartiteAdj.from_adj(
            power_law(*sizes),
            sizes[:2],
            normalize=kind != 'unweighted',
            prepare=True,
        )
        return (adj.dropout(0.5) if kind == 'dropped' else adj).to(device)

    return make


def step(adj, x, weight, backend):
    r"""A step, and its gradients."""
    x = [part.detach().requires_grad_() for part in x]
    out = propagate(adj, *x, backend=backend)
    grads = torch.autograd.grad(out, x, weight)
    return *(part.detach() for part in out), *grads


def check(adj, channels, dtype, backend, device, assert_near):
    x, weight = (
        [torch.randn(n, channels, device=device).to(dtype) for n in adj.size]
        for _ in range(2)
    )
    got = step(adj.to(dtype=dtype), x, weight, backend)
    expected = step(
        adj.to(dtype=dtype).to(dtype=torch.double),
        [part.double() for part in x],
        [part.double() for part in weight],
        'naive',
    )
    assert_near(got, expected, dtype)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [1, 17, 64, 128, 256, 512])
def test_channels(backend, channels, dtype, device, make_adj, assert_near):
    adj = make_adj('normalized')
    check(adj, channels, dtype, backend, device, assert_near)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', ['dropped', 'unweighted'])
def test_kinds(backend, kind, dtype, device, make_adj, assert_near):
    check(make_adj(kind), 64, dtype, backend, device, assert_near)
