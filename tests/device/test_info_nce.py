import pytest
import torch

from diffmm_geo.ops.device import runs_triton
from diffmm_geo.ops.info_nce import info_nce, info_nce_naive

DTYPES = (torch.float, torch.half, torch.bfloat16)


@pytest.fixture(params=['blockwise', 'triton'])
def backend(request, device):
    if request.param == 'triton' and not runs_triton(device):
        pytest.skip(f"'triton' is not available on '{device}'")
    return request.param


def loss_and_gradients(loss, anchor, candidate, *args, **kwargs):
    inputs = [x.detach().requires_grad_() for x in (anchor, candidate)]
    out = loss(*inputs, *args, **kwargs)
    return out.detach(), *torch.autograd.grad(out, inputs)


def check(
    channels,
    dtype,
    temperature,
    backend,
    device,
    is_large,
    assert_near,
    precision='ieee',
):
    nodes, batch = (5003, 333) if is_large else (301, 37)
    anchor = torch.randn(nodes, channels, device=device)
    candidate = 0.3 * anchor + torch.randn_like(anchor)
    # Some nodes come more than once.
    index = torch.randint(nodes, (batch,), device=device)
    index[:5] = 3
    views = anchor.to(dtype), candidate.to(dtype)
    got = loss_and_gradients(
        info_nce,
        *views,
        index,
        temperature,
        backend=backend,
        precision=precision,
    )
    expected = loss_and_gradients(
        info_nce_naive, *(x.double() for x in views), index, temperature
    )
    assert_near(got, expected, dtype)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [2, 17, 64, 128, 256, 512])
def test_channels(backend, channels, dtype, device, is_large, assert_near):
    check(channels, dtype, 0.5, backend, device, is_large, assert_near)


@pytest.mark.parametrize(
    ('precision', 'tolerance'),
    [('tf32x3', torch.float), ('tf32', torch.half)],
)
@pytest.mark.parametrize('backend', ['triton'], indirect=True)
def test_precision(
    backend, precision, tolerance, device, is_large, assert_near
):
    check(
        *(64, torch.float, 0.5, backend, device, is_large),
        *(lambda got, expected, _: assert_near(got, expected, tolerance),),
        precision,
    )


def test_low_temperature(backend, device, is_large, assert_near):
    # Logits up to 100: the sum of their exponentials needs a maximum.
    check(64, torch.float, 0.01, backend, device, is_large, assert_near)


def test_memory(device):
    if device.type != 'cuda':
        pytest.skip('measures memory on CUDA')
    view = torch.randn(100_000, 64, device=device, requires_grad=True)
    index = torch.arange(1024, device=device)

    def peak(loss, **kwargs):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.autograd.grad(loss(view, view, index, 0.5, **kwargs), view)
        return torch.cuda.max_memory_allocated() - before

    ours = peak(info_nce, backend='triton')
    assert ours < 0.25 * peak(info_nce_naive)
