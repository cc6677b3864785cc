r"""Tests of every kernel and of training on one device, against float64 and
against the CPU. They run where there is a GPU, or with `--device cpu`: then
the Triton kernels run in Triton's interpreter, on smaller graphs.
"""

import pytest
import torch

# An access of theirs may end the CUDA context, and the tests after it.
LAST = ('test_unaligned',)


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: getattr(item, 'originalname', '') in LAST)
    if config.getoption('--device') or torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='needs a CUDA device, or --device cpu')
    for item in items:
        if 'device' in item.fixturenames:
            item.add_marker(skip)


@pytest.fixture
def device(request):
    return torch.device(request.config.getoption('--device') or 'cuda')


@pytest.fixture
def is_large(device):
    r"""Whether the device takes large graphs: Triton's interpreter does not."""
    return device.type != 'cpu'


@pytest.fixture
def assert_near():
    r"""Asserts that tensors equal those of a reference in float64, relative to
    the norm of the whole.
    """
    # A sum of 10^6 terms in float32, one after the other, is off by 6e-5.
    bounds = {torch.float: 1e-4, torch.half: 2e-3, torch.bfloat16: 1e-2}

    def check(actual, expected, dtype):
        for got, want in zip(actual, expected, strict=True):
            assert got.size() == want.size()
            assert got.isfinite().all()
            error = (got.to(want) - want).norm()
            assert float(error) <= bounds[dtype] * float(want.norm()) + 1e-12

    return check
