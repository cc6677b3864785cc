import pytest
import torch

from diffmm_geo.ops import available_backends, spmm
from diffmm_geo.ops.spmm import BACKENDS

from .graphs import GRAPHS, power

CHANNELS = (1, 3, 17, 64, 100, 128, 256, 512)
DTYPES = (torch.float, torch.half, torch.bfloat16)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request, device):
    if request.param not in available_backends(device):
        pytest.skip(f"'{request.param}' is not available on '{device}'")
    return request.param


def forward_and_backward(matrix, x, weight, backend):
    r"""The product, and the gradients of `x` and of the values, if any."""
    x = x.detach().requires_grad_()
    inputs = [x]
    if matrix.value is not None:
        value = matrix.value.detach().requires_grad_()
        matrix = matrix.set_value(value)
        inputs.append(value)
    out = spmm(matrix, x, backend=backend)
    return out.detach(), *torch.autograd.grad(out, inputs, weight)


def unaligned(x):
    r"""The same numbers where no vector of them starts at 16 bytes."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x)


def check(matrix, channels, dtype, backend, device, assert_near, move=None):
    matrix = matrix.to(device, dtype)
    rows, cols = matrix.size
    x = torch.randn(cols, channels, device=device).to(dtype)
    weight = torch.randn(rows, channels, device=device).to(dtype)
    if move is not None:
        x, weight = move(x), move(weight)
    got = forward_and_backward(matrix, x, weight, backend)
    expected = forward_and_backward(
        matrix.to(dtype=torch.double), x.double(), weight.double(), 'naive'
    )
    assert_near(got, expected, dtype)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', CHANNELS)
def test_channels(backend, channels, dtype, device, is_large, assert_near):
    check(power(is_large), channels, dtype, backend, device, assert_near)


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
@pytest.mark.parametrize('graph', GRAPHS)
def test_graphs(backend, graph, dtype, device, is_large, assert_near):
    matrix = GRAPHS[graph](is_large)
    check(matrix, 64, dtype, backend, device, assert_near)


@pytest.mark.parametrize('dtype', DTYPES)
def test_unaligned(backend, dtype, device, is_large, assert_near):
    check(power(is_large), 64, dtype, backend, device, assert_near, unaligned)


def test_same_bits_again(device, is_large):
    if 'triton' not in available_backends(device):
        pytest.skip("'triton' is not available")
    matrix = power(is_large).to(device)
    x, weight = (torch.randn(n, 64, device=device) for n in matrix.size[::-1])
    first = forward_and_backward(matrix, x, weight, 'triton')
    again = forward_and_backward(matrix, x, weight, 'triton')
    assert all(a.equal(b) for a, b in zip(first, again))
