from __future__ import annotations

import copy
import ctypes
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.clocks import GPU, MIN_REPEATS, CPUClock, GPUClock

MAX_SETS, EAGER_REPEATS = 64, 10
# Calls that take more seconds are not repeated three times.
SLOW = 5.0


@dataclass(frozen=True)
class Timing:
    """Seconds per call. Ten percent of the samples were faster than `p10`, and
    ten percent slower than `p90`.
    """

    median: float
    p10: float
    p90: float
    repeats: int
    sets: int
    # With inputs that stay in cache, if the others do not.
    warm: float | None = None
    # Of a single call, if the host's work is not in the others.
    eager: float | None = None
    # Why they are not from a CUDA graph, if so.
    note: str = ''

    @classmethod
    def of(cls, samples: Sequence[float], sets: int = 1) -> Timing:
        x = torch.tensor(sorted(samples), dtype=torch.double)
        q = torch.quantile(x, x.new_tensor([0.1, 0.5, 0.9])).tolist()
        return cls(q[1], q[0], q[2], len(samples), sets)


def num_sets(set_bytes: float, cache_bytes: float, limit_bytes: float) -> int:
    """The number of copies of the inputs to alternate between, so that none is
    in cache in its turn: the others fill the cache twice.
    """
    needed = 1 + math.ceil(2 * cache_bytes / max(set_bytes, 1))
    if set_bytes > 2 * cache_bytes:  # A call evicts its own inputs.
        needed = 1
    affordable = int(limit_bytes // max(set_bytes, 1))
    return max(1, min(needed, affordable, MAX_SETS))


def time_call(
    fn: Callable,
    inputs: tuple,
    device: torch.device,
    seconds: float,
    sets: int = 1,
    estimate: float = 0.0,
) -> Timing:
    """Times `fn(*inputs)` for about `seconds`: on alternating copies of the
    inputs, and on the same inputs.
    """
    # Slow calls do not profit from a warm cache.
    sets = max(1, min(sets, int(seconds / max(estimate, 1e-9))))
    turns = [inputs] + [clone(inputs) for _ in range(sets - 1)]
    return take_time(clock_of(device), fn, turns, seconds, estimate)


@cache
def clock_of(device: torch.device) -> CPUClock | GPUClock:
    return GPUClock(GPU()) if device.type == 'cuda' else CPUClock()


def take_time(
    clock: CPUClock | GPUClock,
    fn: Callable,
    turns: Sequence[tuple],
    seconds: float,
    estimate: float = 0.0,
) -> Timing:
    sets = len(turns)
    if estimate >= seconds:
        fewest = 1 if estimate > SLOW else MIN_REPEATS
        timing = Timing.of(clock.eager(fn, turns, fewest), sets)
        return timing if clock.is_host else replace(timing, eager=timing.median)
    clock.eager(fn, turns, sets)  # A warm-up.
    count = int(seconds / max(10 * estimate, 1e-9))
    count = max(MIN_REPEATS, min(count, EAGER_REPEATS))
    eager = max(Timing.of(clock.eager(fn, turns, count)).median, 1e-9)
    samples, note = clock.steady(fn, turns, seconds / min(sets, 2), eager)
    timing = replace(Timing.of(samples, sets), note=note)
    if sets > 1:
        again, _ = clock.steady(fn, turns[:1], seconds / 2, eager)
        timing = replace(timing, warm=Timing.of(again).median)
    return timing if clock.is_host else replace(timing, eager=eager)


def clone(inputs: tuple) -> tuple:
    """A copy that shares no memory."""
    return tuple(
        # `deepcopy` does not support sparse layouts.
        x.clone()
        if isinstance(x, torch.Tensor) and x.layout != torch.strided
        else copy.deepcopy(x)
        for x in inputs
    )


def peak_memory(
    fn: Callable, device: torch.device
) -> tuple[Any, float, float | None]:
    """The output of `fn()`, its seconds, and its peak memory in bytes above the
    start: PyTorch's allocations on a GPU, or the resident set on a CPU (to
    about a megabyte, and on Linux only).
    """
    if device.type == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        out = fn()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return out, seconds, torch.cuda.max_memory_allocated() - before

    before = reset_peak()
    start = time.perf_counter()
    out = fn()
    seconds = time.perf_counter() - start
    if before is None:
        return out, seconds, None
    return out, seconds, max(0.0, read_status('VmHWM') - before)


@contextmanager
def memory_limit(extra: float) -> Iterator[None]:
    """Makes allocations beyond this number of additional bytes fail, in this
    process and its children. Otherwise, Linux would kill some process.
    """
    try:
        import resource

        before = resource.getrlimit(resource.RLIMIT_DATA)
        soft = int(read_status('VmData') + extra)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def reset_peak() -> float | None:
    """Resets the memory peak, and returns the current memory."""
    try:
        # Freed blocks kept by the allocator would hide new allocations.
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
        return read_status('VmRSS')
    except (AttributeError, OSError):
        return None


def read_status(name: str, pid: int | str = 'self') -> float:
    """Bytes from Linux's status file of a process. Unlike `ru_maxrss`, `VmHWM`
    does not include the parent process.
    """
    status = Path(f'/proc/{pid}/status').read_text()
    match = re.search(rf'^{name}:\s+(\d+) kB', status, re.MULTILINE)
    if match is None:  # The process has ended.
        return 0.0
    return float(match[1]) * 1024
