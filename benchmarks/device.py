from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import time_call

ROOT = Path(__file__).parents[1]
PACKAGES = (
    'torch',
    'torch_geometric',
    'torch_sparse',
    'torch_scatter',
    'triton',
    'numpy',
    'scipy',
)


def to_device(name: str) -> torch.device:
    """The device of this name, if it is available."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == 'cuda':  # Events and graphs are of the current one.
            torch.cuda.set_device(device)
    except (AssertionError, RuntimeError) as error:
        text = str(error).split('\n')[0]
        raise ValueError(f'argument --device: {text}') from None
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """The machine and the versions that a measurement depends on."""
    return {
        'device': device_name(device),
        'device_type': device.type,
        'driver': _driver(device),
        'cuda': torch.version.cuda,
        'threads': torch.get_num_threads(),
        'load_average': round(os.getloadavg()[0], 2),
        'system': f'{platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'versions': {name: _version(name) for name in PACKAGES},
        'commit': _commit(),
    }


def device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = _read('/proc/cpuinfo')
    match = re.search(r'^model name\s*: (.+)$', info, re.MULTILINE)
    return match[1] if match else platform.processor() or 'CPU'


def cache_bytes(device: torch.device) -> int:
    """The size of the last-level cache."""
    if device.type == 'cuda':
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = [32 * 2**20]
    for path in Path('/sys/devices/system/cpu/cpu0/cache').glob('index*/size'):
        match = re.fullmatch(r'(\d+)K', path.read_text().strip())
        sizes += [int(match[1]) * 1024] if match else []
    return max(sizes)


def available_bytes(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    match = re.search(r'MemAvailable:\s+(\d+) kB', _read('/proc/meminfo'))
    return int(match[1]) * 1024 if match else 8 * 2**30


def ceilings(device: torch.device, seconds: float = 0.3) -> dict[str, float]:
    """The :meth:`rates` by name."""
    return dict(rates(device, seconds))


def rates(device: torch.device, seconds: float) -> Iterator[tuple[str, float]]:
    """Measures the two rates that bound every kernel on this device: bytes per
    second of a large copy (read plus written), and FLOP per second of a large
    matrix product for each type. Takes the best call, as the median on a busy
    machine is no upper bound.
    """
    size = max(8 * cache_bytes(device), 2**28) // 4
    source = torch.rand(size, device=device)
    target = torch.empty_like(source)
    yield 'copy', 2 * 4 * size / _best(target.copy_, source, seconds)
    del source, target

    n, dtypes = 1024, [torch.float, torch.bfloat16]
    if device.type == 'cuda':  # A CPU takes seconds for float16.
        n, dtypes = 8192, [*dtypes, torch.half]
    for dtype in dtypes:
        a, b = torch.randn(2, n, n, device=device).to(dtype)
        name = str(dtype).removeprefix('torch.')
        yield f'matmul_{name}', 2 * n**3 / _best(a.matmul, b, seconds)


def _best(fn: Callable, x: torch.Tensor, seconds: float) -> float:
    return time_call(fn, (x,), x.device, seconds).p10


def _driver(device: torch.device) -> str | None:
    if device.type != 'cuda':
        return None
    query = ['--query-gpu=driver_version', '--format=csv,noheader']
    return (_output('nvidia-smi', *query) or '').split('\n')[0] or None


def _commit() -> str | None:
    git = ('git', '-C', str(ROOT))
    commit = _output(*git, 'rev-parse', 'HEAD')
    if commit and _output(*git, 'status', '--porcelain', '-uno'):
        commit += '+changes'
    return commit


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''
