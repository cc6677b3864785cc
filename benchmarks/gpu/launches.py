from __future__ import annotations

from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from diffmm_geo.training import DiffMMTrainer

LAUNCHES = ('cudaLaunchKernel', 'cuLaunchKernel', 'cudaGraphLaunch')
WAITS = (
    'cudaStreamSynchronize',
    'cudaDeviceSynchronize',
    'cudaEventSynchronize',
)


def count_launches(trainer: DiffMMTrainer) -> dict[str, float]:
    """Launches of kernels, and waits of the host for the device, in an epoch
    and by step.
    """
    if trainer.device.type != 'cuda':
        return {}
    torch.cuda.synchronize()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        trainer.train_epoch()
        torch.cuda.synchronize()
    calls = Counter()
    for event in profiler.key_averages():
        calls[event.key] += event.count
    out = {}
    for what, prefixes in (('launches', LAUNCHES), ('waits', WAITS)):
        count = sum(n for name, n in calls.items() if name.startswith(prefixes))
        out[what] = float(count)
        out[f'{what}_per_step'] = count / trainer.num_steps
    return out
