import sys
import time
from functools import partial

import pytest
import torch

from benchmarks.child import LimitError, run_child
from benchmarks.clocks import CPUClock, GPUClock
from benchmarks.timing import (
    Timing,
    clone,
    memory_limit,
    num_sets,
    peak_memory,
    take_time,
    time_call,
)
from tests.benchmarks.fake_gpu import FakeGPU

CPU = torch.device('cpu')
linux = pytest.mark.skipif(
    sys.platform != 'linux', reason='Linux alone tells the memory of a process'
)


def test_statistics():
    timing = Timing.of([float(x) for x in range(100, -1, -1)], sets=3)
    assert (timing.p10, timing.median, timing.p90) == (10, 50, 90)
    assert (timing.repeats, timing.sets) == (101, 3)


def test_time_is_what_a_call_takes():
    timing = time_call(lambda: time.sleep(0.01), (), CPU, seconds=0.1)
    assert 0.01 <= timing.median < 0.05
    assert 3 <= timing.repeats <= 10


def test_slow_calls_are_timed_once():
    calls = []
    timing = time_call(calls.append, (1,), CPU, seconds=0.1, estimate=100.0)
    assert len(calls) == timing.repeats == 1


def test_inputs_take_turns():
    seen = set()
    x = torch.zeros(3)
    time_call(lambda x: seen.add(x.data_ptr()), (x,), CPU, seconds=1e-3, sets=4)
    assert len(seen) == 4 and x.data_ptr() in seen


def take(gpu, sets, clock=None):
    return take_time(
        clock or GPUClock(gpu),
        gpu.call,
        [(n,) for n in range(sets)],
        seconds=0.1,
        estimate=gpu.launch,
    )


def test_gpu_is_timed_without_its_host():
    gpu = FakeGPU()
    timing = take(gpu, sets=4)
    # A replay starts 8 us after the last one, and has 64 calls.
    assert timing.median == pytest.approx(gpu.cold)
    assert timing.warm == pytest.approx(gpu.warm, rel=0.1)
    assert timing.eager == pytest.approx(gpu.launch + gpu.cold, rel=0.2)
    assert (timing.sets, timing.note, gpu.captures) == (4, '', 2)
    once = take(gpu, sets=1)
    assert once.median == pytest.approx(timing.warm) and once.warm is None


REFUSED = RuntimeError('refused\nwhen ...')
FULL = torch.OutOfMemoryError('full')


# PyTorch might not recover from a failed capture.
@pytest.mark.parametrize(
    ('gpu', 'reason', 'lasts'),
    [
        (FakeGPU(REFUSED), ' after RuntimeError: refused', True),
        (FakeGPU(FULL), ', as OutOfMemoryError: full', False),
        (FakeGPU(waits=True), ', as RuntimeError: it waits', False),
    ],
)
def test_calls_that_are_not_captured(gpu, reason, lasts):
    clock, note = GPUClock(gpu), f'no CUDA graph{reason}'
    timing = take(gpu, 4, clock)
    assert timing.note == note
    if gpu.waits:  # Such a call includes what its host does.
        assert timing.median > gpu.launch and gpu.captures == 0
    else:
        assert timing.median == pytest.approx(gpu.cold)
        assert timing.warm == pytest.approx(gpu.warm)
    captures, gpu.refuses, gpu.waits = gpu.captures, None, False
    assert take(gpu, 4, clock).note == (note if lasts else '')
    assert lasts == (gpu.captures == captures)


def test_slow_calls_of_a_gpu_are_not_captured():
    gpu = FakeGPU()
    gpu.cold = 2.0
    timing = take_time(GPUClock(gpu), gpu.call, [(0,), (1,)], 0.1, 2.0)
    assert timing.median == timing.eager == pytest.approx(2, rel=1e-3)
    assert timing.repeats == 3 and gpu.captures == 0


def test_warm_inputs_are_timed_beside_alternating_ones():
    seen = []
    timing = take_time(CPUClock(), seen.append, [(0,), (1,), (2,)], 1e-3)
    half = len(seen) // 2
    assert set(seen[:half]) == {0, 1, 2} and set(seen[-half // 2 :]) == {0}
    assert timing.warm > 0 and timing.eager is None


@pytest.mark.parametrize(
    'size, cache, limit, expected',
    [
        (10, 100, 1e9, 21),  # The other 20 are twice the cache.
        (150, 100, 1e9, 3),
        (201, 100, 1e9, 1),  # A call evicts its own inputs.
        (10, 100, 55, 5),  # The number that fits.
        (10, 100, 0, 1),
        (1, 1e6, 1e9, 64),
    ],
)
def test_number_of_sets(size, cache, limit, expected):
    assert num_sets(size, cache, limit) == expected


def test_copies_share_no_memory():
    dense = torch.rand(4, 4, requires_grad=True)
    csr = torch.eye(4).to_sparse_csr()
    copy, csr_copy, (nested,) = clone((dense, csr, [dense]))
    assert copy.is_leaf and copy.requires_grad
    assert len({x.data_ptr() for x in (dense, copy, nested)}) == 3
    assert csr.values().data_ptr() != csr_copy.values().data_ptr()
    assert torch.equal(csr.to_dense(), csr_copy.to_dense())


@linux
def test_peak_is_of_the_call():
    held = torch.ones(30_000_000)  # 120 MB that do not count.

    def fn():
        return (torch.ones(25_000_000) + 1).sum()  # Twice 100 MB.

    out, seconds, peak = peak_memory(fn, CPU)
    assert held.size(0) and out == 50_000_000 and seconds > 0
    assert 150e6 < peak < 260e6


@linux
def test_limit_makes_allocations_fail():
    with memory_limit(2e8):
        with pytest.raises(RuntimeError, match='allocate memory'):
            torch.empty(250_000_000)
    torch.empty(250_000_000)


@linux
def test_child_is_ended_at_its_limits():
    spec = {'graph': 'power-60x40x300', 'root': '.', 'recipe': 'default'}
    spec |= {'device': 'cpu', 'epochs': 1, 'seed': 0, 'threads': 1}
    run = partial(run_child, 'benchmarks.training', memory=1e12, seconds=60)
    good = {**spec, 'config': {'hidden_channels': 8}}
    with pytest.raises(LimitError, match='held more than 0.0 GB'):
        run(good, memory=1e6)
    with pytest.raises(LimitError, match='took more than 0 s'):
        run(good, seconds=0.1)
    with pytest.raises(RuntimeError, match='ValueError: .*hidden_channels'):
        run({**spec, 'config': {'hidden_channels': -1}})
