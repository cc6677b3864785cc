from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.registry import Record
from benchmarks.session import Session
from benchmarks.timing import num_sets, peak_memory, time_call

# Of ||out - reference|| / ||reference||.
TOLERANCE = {
    'float64': 1e-10,
    'float32': 1e-4,
    'float16': 5e-3,
    'bfloat16': 2e-2,
}
# The name of the case that others are compared with.
OURS = 'ours'


@dataclass
class Case:
    """A kernel on one input, with its check and its cost.

    `make` builds the inputs, `fn(*inputs)` is timed, and `check` returns the
    error of its output against the naive form in float64. `bytes` are
    compulsory: each input is read once, and each output written once. `extra`
    estimates further memory of the kernel.
    """

    labels: dict[str, Any]
    make: Callable[[], tuple]
    fn: Callable
    check: Callable[[Any], float]
    tolerance: float
    bytes: float
    flops: float
    edges: float | None = None
    # What it reads if each edge reads its row of X from memory.
    gathered: float | None = None
    extra: float = 0.0
    # On graphs with more, it takes too long.
    most_edges: float = math.inf
    ours: bool = False
    # What is not installed, if so.
    unavailable: str = ''


def relative_error(
    out: tuple[Tensor, ...], reference: tuple[Tensor, ...]
) -> float:
    """The largest relative error over the outputs of a kernel."""
    errors = []
    for got, want in zip(out, reference, strict=True):
        if got.size() != want.size():
            return float('inf')
        scale = want.norm().clamp(min=1e-30)
        errors.append(float((got.to(want) - want).norm() / scale))
    # Python's `max` would ignore NaN.
    return float(torch.tensor(errors).max())


def measure(
    session: Session, family: str, cases: Iterable[Case]
) -> Iterator[Record]:
    """Checks and times the kernels for one problem, ours first. Compares the
    others with ours, and ours with the best peer.
    """
    ours: Record | None = None
    peers: list[float] = []
    for case in cases:
        record = Record(family, case.labels, ours=case.ours)
        try:
            _measure(session, case, record)
        except Exception as error:  # A peer may raise anything.
            record.status = 'failed'
            text = str(error).strip().split('\n')[0]
            record.reason = f'{type(error).__name__}: {text}'[:200]
            if session.options.device.type == 'cuda':
                with suppress(RuntimeError):  # After a failed capture.
                    torch.cuda.empty_cache()
        if 'ms' in record.metrics:
            ms = record.metrics['ms']
            if case.labels['backend'] == OURS:
                ours = record
            elif not case.ours:
                peers.append(ms)
            if ours is not None:
                record.metrics['speedup'] = ms / ours.metrics['ms']
        yield record
    if ours is not None and peers:
        ours.metrics['vs_best_peer'] = min(peers) / ours.metrics['ms']


def _measure(session: Session, case: Case, record: Record) -> None:
    device, metrics = session.options.device, record.metrics
    if case.unavailable:
        record.status, record.reason = 'not available', case.unavailable
        return
    rate = session.ceilings.get(f'matmul_{case.labels.get("dtype")}')
    if case.edges is not None and case.edges > case.most_edges:
        record.status = 'skipped'
        record.reason = f'is for up to {case.most_edges:.0e} edges'
        return
    if case.bytes + case.extra > session.memory:
        gigabytes = (case.bytes + case.extra) / 1e9
        record.status = 'skipped'
        record.reason = f'would hold about {gigabytes:.0f} GB'
        return
    limit = session.options.max_seconds
    if rate and case.flops / rate > limit:
        record.status = 'skipped'
        record.reason = f'would take more than {case.flops / rate:.0f} s a call'
        return

    inputs = case.make()
    metrics['error'] = error = case.check(case.fn(*inputs))
    if not error <= case.tolerance:  # NaN fails, too.
        record.status = 'failed'
        record.reason = f'error {error:.1e} is over {case.tolerance:.0e}'
        return

    _, estimate, peak = peak_memory(lambda: case.fn(*inputs), device)
    if peak is not None:
        metrics['peak_bytes'] = peak
    spare = (session.memory - case.bytes - case.extra) / 2
    sets = num_sets(case.bytes, session.cache_bytes, spare)
    timing = time_call(
        case.fn, inputs, device, session.options.seconds, sets, estimate
    )
    seconds, record.reason = timing.median, timing.note
    metrics.update(
        ms=1e3 * timing.median,
        ms_p10=1e3 * timing.p10,
        ms_p90=1e3 * timing.p90,
        repeats=timing.repeats,
        sets=timing.sets,
        gb_per_s=case.bytes / seconds / 1e9,
        gflop_per_s=case.flops / seconds / 1e9,
        flop_per_byte=case.flops / case.bytes,
        share_of_copy=case.bytes / seconds / session.ceilings['copy'],
    )
    if rate:
        metrics['share_of_matmul'] = case.flops / seconds / rate
    for name in ('warm', 'eager'):
        value = getattr(timing, name)
        if value is not None:
            metrics[f'ms_{name}'] = 1e3 * value
    if case.edges:
        metrics['edges_per_s'] = case.edges / seconds
    if case.gathered:
        metrics['gathered_gb_per_s'] = case.gathered / seconds / 1e9
