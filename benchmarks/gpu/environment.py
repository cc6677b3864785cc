"""What the machine is, and the two rates that bound every kernel."""

from __future__ import annotations

import os
import shutil
import subprocess

import torch

from benchmarks.device import ceilings, environment
from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results


def main(spec: Spec) -> None:
    device = torch.device(spec.device)
    results = Results(
        spec.path('environment'),
        environment=environment(device),
        cores=os.cpu_count(),
    )
    if device.type == 'cuda':
        p = torch.cuda.get_device_properties(device)
        results.write(
            multiprocessors=p.multi_processor_count,
            memory_bytes=p.total_memory,
            cache_bytes=p.L2_cache_size,
            capability=list(torch.cuda.get_device_capability(device)),
        )
    if shutil.which('nvidia-smi'):
        query = 'name,driver_version,clocks.sm,clocks.mem,power.limit'
        command = ['nvidia-smi', f'--query-gpu={query}', '--format=csv']
        out = subprocess.run(command, capture_output=True, text=True)
        results.write(nvidia_smi=out.stdout.splitlines())
    seconds = 0.02 if spec.quick else 0.5
    results.write(ceilings=ceilings(device, seconds), complete=True)


if __name__ == '__main__':
    main(Spec.from_argv())
