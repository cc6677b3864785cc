r"""How the kernels are launched, in Triton's interpreter."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import info_nce
from diffmm_geo.ops import propagate, spmm
from diffmm_geo.ops.device import runs_triton
from diffmm_geo.ops.spmm import block_shape, row_segments
from diffmm_geo.sparse import BipartiteAdj, SparseMatrix

if not runs_triton(torch.device('cpu')):
    pytest.skip('needs the interpreter', allow_module_level=True)

from diffmm_geo.ops.info_nce import triton_kernels as of_info_nce  # noqa: E402
from diffmm_geo.ops.propagate import (  # noqa: E402
    triton_kernels as of_propagate,
)
from diffmm_geo.ops.spmm import triton_kernels as of_spmm  # noqa: E402

KERNELS = {
    of_spmm: ['spmm_kernel', 'spmm_parts_kernel', 'sddmm_kernel'],
    of_propagate: ['propagate_kernel', 'propagate_parts_kernel'],
    of_info_nce: ['_sum_exp', '_finish', '_grad'],
}


class Spy:
    r"""Launches a kernel, and tells of it."""

    def __init__(self, name, kernel, tell):
        self.name, self.kernel, self.tell = name, kernel, tell

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.tell(self.name, kwargs['NUM_CHANNELS'])
            self.kernel[grid](*args, **kwargs)

        return launch


@pytest.fixture
def launches(monkeypatch):
    r"""The names and numbers of channels of launches."""
    launches = []
    for module, names in KERNELS.items():
        for name in names:
            spy = Spy(
                name,
                getattr(module, name),
                lambda *launch: launches.append(launch),
            )
            monkeypatch.setattr(module, name, spy)
    return launches


@pytest.fixture
def short_segments(monkeypatch):
    r"""A row of 100 entries then has as many levels as one of 10^8."""
    for name in ('MIN_LENGTH', 'MAX_LENGTH'):
        monkeypatch.setattr(row_segments, name, 2)
    monkeypatch.setattr(row_segments, 'MAX_PARTS', 4)


def run_spmm(name, channels, dtype=torch.double):
    torch.manual_seed(0)
    row = torch.cat([torch.zeros(100), torch.arange(7)]).long()
    col = torch.randint(9, row.size())
    value = torch.randn(row.size()).to(dtype).requires_grad_()
    x = torch.randn(9, channels).to(dtype).requires_grad_()
    out = spmm(SparseMatrix.from_coo(row, col, value, (7, 9)), x, backend=name)
    weight = torch.randn(out.size()).to(dtype)
    return out, *torch.autograd.grad((out * weight).sum(), [value, x])


def run_propagate(name, channels, dtype=torch.double, scaled=True):
    torch.manual_seed(0)
    user = torch.cat([torch.zeros(100), torch.arange(7)]).long()
    edge_index = torch.stack([user, torch.arange(107) % 101])
    adj = BipartiteAdj.from_adj(edge_index, (7, 101), prepare=True)
    adj = adj.to(dtype=dtype)
    if not scaled:
        adj = replace(adj, user_scale=None, item_scale=None)
    x = [torch.randn(n, channels).to(dtype).requires_grad_() for n in (7, 101)]
    out = propagate(adj, *x, backend=name)
    loss = sum((o * torch.randn(o.size()).to(dtype)).sum() for o in out)
    grads = torch.autograd.grad(loss, x)
    # The gradient of one side is a product with self-loops.
    out_user, _ = propagate(adj, x[0], x[1].detach(), backend=name)
    return *out, *grads, *torch.autograd.grad(out_user.sum(), x[0])


def run_info_nce(name):
    x = torch.randn(9, 4, requires_grad=True)
    loss = info_nce(x, x, torch.tensor([0, 3]), backend=name)
    return torch.autograd.grad(loss, x)


@pytest.mark.parametrize(
    'run', [run_spmm, run_propagate, partial(run_propagate, scaled=False)]
)
def test_levels_of_partial_sums(launches, short_segments, run):
    assert_close(run('triton', 3), run('naive', 3))
    # One row has 50 partial sums, then 13, 4, and 1. Others have fewer.
    names = [name for name, _ in launches]
    forward = names[: names.index(names[0], 1)]
    assert forward[0] == names[0] and len(forward) >= 4
    assert len({*forward[1:4]}) == 1 and 'parts' in forward[1]


@pytest.mark.parametrize('run', [run_spmm, run_propagate])
@pytest.mark.parametrize(
    ('dtype', 'channels', 'padded'),
    [
        (torch.float, 17, 20),
        (torch.float, 16, 16),
        (torch.bfloat16, 50, 56),
        (torch.double, 1, 2),
    ],
)
def test_odd_channels_are_padded_where_it_pays(
    monkeypatch, launches, run, dtype, channels, padded
):
    plain = run('triton', channels, dtype)
    assert {width for _, width in launches} == {channels}
    launches.clear()
    monkeypatch.setattr(block_shape, 'LAUNCH_ROWS', 0)
    monkeypatch.setattr(block_shape, 'ROW_COST', 0)
    got = run('triton', channels, dtype)
    assert {width for _, width in launches} == {padded}
    for a, b in zip(got, plain):
        assert a.is_contiguous()
        assert_close(a, b)


def test_launches_are_on_the_device_of_their_inputs(monkeypatch, launches):
    active, seen = [], []

    @contextmanager
    def device_of(x):
        active.append(x.device)
        yield
        active.pop()

    def tell(*launch):
        seen.append(launch[0])
        assert active, launch

    monkeypatch.setattr(torch.cuda, 'device_of', device_of)
    for module, names in KERNELS.items():
        for name in names:
            getattr(module, name).tell = tell
    for run in (run_spmm, run_propagate):
        run('triton', 4)
    run_info_nce('triton')
    assert {*seen} == {name for names in KERNELS.values() for name in names}
