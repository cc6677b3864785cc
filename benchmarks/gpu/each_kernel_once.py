"""Runs each Triton kernel, forward and backward, on odd sizes, and compares it
with the naive form in float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from traceback import print_exc
from typing import Any

import torch
from torch import Tensor

from benchmarks.device import to_device
from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results
from benchmarks.graphs import power_law
from benchmarks.kernels import TOLERANCE, relative_error
from diffmm_geo.ops import propagate, spmm
from diffmm_geo.ops.device import runs_triton
from diffmm_geo.ops.info_nce import info_nce, info_nce_naive
from diffmm_geo.sparse import BipartiteAdj

USERS, ITEMS, EDGES, CHANNELS = 61, 43, 500, 17
TEMPERATURE = 0.5
# Calls a kernel on the adjacency matrix, the users and the items.
Call = Callable[..., tuple[Tensor, ...]]


def call_spmm(
    backend: str, adj: BipartiteAdj, user: Tensor, item: Tensor
) -> tuple[Tensor, ...]:
    value = adj.to_user.value.detach().requires_grad_()
    out = spmm(adj.to_user.set_value(value), item, backend=backend)
    return out, *torch.autograd.grad(out, (item, value), user)


def call_propagate(
    backend: str, adj: BipartiteAdj, user: Tensor, item: Tensor
) -> tuple[Tensor, ...]:
    out = propagate(adj, user, item, backend=backend)
    return *out, *torch.autograd.grad(out, (user, item), (user, item))


def call_info_nce(
    precision: str,
    backend: str,
    adj: BipartiteAdj,
    user: Tensor,
    item: Tensor,
) -> tuple[Tensor, ...]:
    index = torch.arange(11, device=user.device)
    views = user, 2 * user + 1
    if backend == 'naive':
        loss = info_nce_naive(*views, index, TEMPERATURE)
    else:
        loss = info_nce(
            *views, index, TEMPERATURE, backend=backend, precision=precision
        )
    return loss, *torch.autograd.grad(loss, user)


KERNELS: dict[str, Call] = {
    'spmm': call_spmm,
    'propagate': call_propagate,
    'info_nce': partial(call_info_nce, 'ieee'),
    'info_nce tf32x3': partial(call_info_nce, 'tf32x3'),
}


def cases(device: torch.device) -> dict[str, Callable[[], float]]:
    """Functions that run a kernel, and return its error."""
    plain = BipartiteAdj.from_adj(
        power_law(USERS, ITEMS, EDGES), (USERS, ITEMS), prepare=True
    ).to(device)
    adjs = {'': plain, ' dropped': plain.dropout(0.5)}
    out = {}
    for dtype in ('float32', 'bfloat16'):
        for name, call in KERNELS.items():
            for kind, adj in adjs.items():
                if kind and name != 'propagate':
                    continue
                if 'tf32x3' in name and dtype != 'float32':
                    continue
                run = partial(error_of, call, adj, getattr(torch, dtype))
                out[f'{name}{kind} {dtype}'] = partial(run, TOLERANCE[dtype])
    return out


def error_of(
    call: Call, adj: BipartiteAdj, dtype: torch.dtype, tolerance: float
) -> float:
    generator = torch.Generator().manual_seed(0)
    x = [
        torch.randn(n, CHANNELS, generator=generator).to(
            adj.to_user.value.device, dtype
        )
        for n in (USERS, ITEMS)
    ]

    def run(backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        # In this type, and then the other: both take the rounded values.
        weights = adj.to(dtype=x[0].dtype).to(dtype=dtype)
        inputs = [part.to(dtype).requires_grad_() for part in x]
        out = call(backend, weights, *inputs)
        return tuple(x.detach() for x in out)

    expected = run('naive', torch.double)
    error = relative_error(run('triton', dtype), expected)
    if not error <= tolerance:  # NaN fails, too.
        raise ValueError(f'error {error:.1e} is over {tolerance:.0e}')
    return error


def run(device: torch.device, add: Callable[[dict[str, Any]], None]) -> None:
    """Runs all kernels, and reports each before and after."""
    for name, error in cases(device).items():
        case: dict[str, Any] = {'name': name, 'outcome': 'begun'}
        add(case)
        start = time.monotonic()
        try:
            case |= {'error': error(), 'outcome': 'passed'}
        except Exception as failure:
            print_exc()
            text = f'{type(failure).__name__}: {failure}'
            case |= {'message': text, 'outcome': 'failed'}
        case['seconds'] = round(time.monotonic() - start, 3)
        add(case)


def main(spec: Spec) -> None:
    device = to_device(spec.device)
    results = Results(spec.path('each_kernel_once'), cases=[])
    if not runs_triton(device):
        results.write(complete=True, not_available='needs Triton')
        return
    cases = {}

    def add(case: dict[str, Any]) -> None:
        cases[case['name']] = case
        results.write(cases=list(cases.values()))
        print(' ', *case.values(), flush=True)

    run(device, add)
    results.write(complete=True)


if __name__ == '__main__':
    main(Spec.from_argv())
