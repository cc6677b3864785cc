"""Installs torch-scatter and torch-sparse for this device into the scratch
folder, from wheels or source archives. Wheels that it builds are kept with the
logs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results

PACKAGES = ('torch_scatter', 'torch_sparse')
PIP = (sys.executable, '-m', 'pip')


def find(folder: Path, name: str, suffix: str) -> Path | None:
    for pattern in (name, name.replace('_', '-')):
        if found := sorted(folder.glob(f'{pattern}-*{suffix}')):
            return found[-1]
    return None


def build(
    archive: Path, wheels: Path, device: torch.device
) -> subprocess.Popen:
    env = {**os.environ, 'MAX_JOBS': str(max(1, (os.cpu_count() or 2) // 2))}
    if device.type == 'cuda':
        major, minor = torch.cuda.get_device_capability(device)
        env.update(FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST=f'{major}.{minor}')
    else:
        env['FORCE_ONLY_CPU'] = '1'
    with open(log_of(archive, wheels), 'w') as log:
        return subprocess.Popen(
            [
                *(*PIP, 'wheel', '--no-build-isolation', '--no-deps'),
                *('--no-index', '--wheel-dir', str(wheels), str(archive)),
            ],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def log_of(archive: Path, wheels: Path) -> Path:
    return wheels / f'{archive.name}.log'


def main(spec: Spec) -> None:
    assert spec.sources is not None
    sources, start = Path(spec.sources), time.monotonic()
    wheels = spec.logs / 'wheels'
    wheels.mkdir(exist_ok=True)
    results = Results(spec.logs / 'peers.json', packages={})
    packages = results['packages']
    device = torch.device(spec.device)

    builds = {}
    for name in PACKAGES:
        packages[name] = {'status': 'begun'}
        if find(sources, name, '.whl') is not None:
            continue
        archive = find(sources, name, '.tar.gz')
        if archive is None:
            packages[name]['status'] = f"not found in '{sources}'"
            continue
        builds[name] = archive, build(archive, wheels, device)
    results.write()
    for name, (archive, process) in builds.items():
        code = process.wait()
        packages[name]['seconds'] = time.monotonic() - start
        if code != 0:
            packages[name]['status'] = 'failed'
            print(log_of(archive, wheels).read_text()[-2000:])
        results.write()

    for name in PACKAGES:
        wheel = find(sources, name, '.whl') or find(wheels, name, '.whl')
        if wheel is None:
            continue
        command = [*PIP, 'install', '-q', '--no-index', '--no-deps', '--target']
        code = subprocess.call([*command, str(spec.site), str(wheel)])
        packages[name]['status'] = 'installed' if code == 0 else 'failed'
    results.write(complete=True)


if __name__ == '__main__':
    main(Spec.from_argv())
