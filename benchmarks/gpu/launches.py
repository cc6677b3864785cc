from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.operations import PHASES, within_steps
from diffmm_geo.training import DiffMMTrainer

LAUNCHES = ('cudaLaunchKernel', 'cuLaunchKernel', 'cudaGraphLaunch')
WAITS = (
    'cudaStreamSynchronize',
    'cudaDeviceSynchronize',
    'cudaEventSynchronize',
)
# A profile of more steps takes seconds to be read.
STEPS = 3
# The steps before these, which may compile or record kernels.
FIRST = 6
MAX_KERNELS = 30


def count_launches(
    trainer: DiffMMTrainer, traces: Path | None = None
) -> dict[str, Any]:
    """Counts, on a GPU, kernel launches and waits of the host for the device
    in a step of each phase. Adds the kernels that take the most time.

    With the path :obj:`traces`, the trace of a step of each phase becomes
    :obj:`TRACES-PHASE.json.gz`, to be read by `chrome://tracing`.
    """
    if trainer.task.device.type != 'cuda':
        return {}
    out: dict[str, Any] = {}
    for phase in PHASES:
        profiler = _profiler()
        steps = within_steps(trainer, phase, _within(profiler), FIRST, STEPS)
        if steps == 0:
            continue
        out |= summary(profiler.events(), phase, steps)
        if traces is not None:
            profiler = _profiler()
            within_steps(trainer, phase, _within(profiler), FIRST)
            profiler.export_chrome_trace(f'{traces}-{phase}.json.gz')
    return out


def summary(events: Iterable[Any], phase: str, steps: int) -> dict[str, Any]:
    """What the raw events of some steps say of one."""
    calls: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    micros: Counter[str] = Counter()
    for event in events:
        if event.device_type == DeviceType.CPU:
            calls[event.name] += 1
        elif not event.is_user_annotation:
            kernels[event.name] += 1
            micros[event.name] += event.time_range.elapsed_us()
    out: dict[str, Any] = {}
    for what, prefixes in (('launches', LAUNCHES), ('waits', WAITS)):
        count = sum(n for name, n in calls.items() if name.startswith(prefixes))
        out[f'{what}_per_{phase}'] = count / steps
    out[f'device_us_per_{phase}'] = micros.total() / steps
    out[f'kernels_of_{phase}'] = [
        {'name': name, 'us': us / steps, 'calls': kernels[name] / steps}
        for name, us in micros.most_common(MAX_KERNELS)
    ]
    return out


def _profiler() -> profile:
    return profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])


@contextmanager
def _within(profiler: profile) -> Iterator[None]:
    torch.cuda.synchronize()
    with profiler:
        yield
        torch.cuda.synchronize()
