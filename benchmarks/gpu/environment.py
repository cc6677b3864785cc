"""Describes the machine, and measures the rates that bound every kernel, each
with the clocks that it ran at.
"""

from __future__ import annotations

import os
import sys

import torch

from benchmarks.device import environment, rates, to_device
from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results
from benchmarks.gpu.smi import Samples, query

LIMITS = (
    'name,driver_version,pstate,persistence_mode,mig.mode.current,'
    'clocks.max.sm,clocks.max.mem,power.limit'
)
CLOCKS = 'clocks.sm,clocks.mem,power.draw,temperature.gpu'


def main(spec: Spec) -> None:
    try:
        device = to_device(spec.device)
    except ValueError as error:
        sys.exit(str(error))
    results = Results(
        spec.path('environment'),
        environment=environment(device),
        cores=os.cpu_count(),
        ceilings={},
        clocks={},
    )
    if device.type == 'cuda':
        p = torch.cuda.get_device_properties(device)
        results.write(
            multiprocessors=p.multi_processor_count,
            memory_bytes=p.total_memory,
            cache_bytes=p.L2_cache_size,
            capability=list(torch.cuda.get_device_capability(device)),
            limits=query(device, LIMITS),
        )
    # What it runs at while a rate is measured.
    samples = Samples(device, CLOCKS)
    for name, rate in rates(device, 0.02 if spec.quick else 0.5):
        results['ceilings'][name] = rate
        results['clocks'][name] = samples.take()
        results.write()
        print(f'  {name}: {rate / 1e9:.0f} G/s', *results['clocks'][name][-1:])
    results.write(complete=True)


if __name__ == '__main__':
    main(Spec.from_argv())
