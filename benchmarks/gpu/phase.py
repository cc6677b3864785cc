from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The seconds from SIGTERM to SIGKILL.
GRACE = 5.0
# The seconds between two looks at a process.
INTERVAL = 0.1
# Where compilers and libraries keep files, by the variable that says so.
CACHES = {
    'TRITON_CACHE_DIR': 'triton',
    'TORCHINDUCTOR_CACHE_DIR': 'inductor',
    'PYTORCH_KERNEL_CACHE_PATH': 'torch',
    'CUDA_CACHE_PATH': 'cuda',
    'MPLCONFIGDIR': 'matplotlib',
    'TMPDIR': '',
}


@dataclass(frozen=True)
class Spec:
    """The input of every phase, as JSON."""

    device: str
    output: str
    scratch: str
    quick: bool = False
    root: str | None = None
    sources: str | None = None
    # A phase stops by itself after these.
    seconds: float = 0.0

    @classmethod
    def from_argv(cls) -> Spec:
        return cls(**json.loads(sys.argv[1]))

    def path(self, name: str) -> Path:
        """The file of results of a phase."""
        return Path(self.output) / f'{name}.json'

    @property
    def logs(self) -> Path:
        """The folder of what goes into the archive of logs."""
        return Path(self.scratch) / 'logs'

    @property
    def site(self) -> Path:
        """The folder of packages that the machine lacks."""
        return Path(self.scratch) / 'site'

    @property
    def env(self) -> dict[str, str]:
        """Variables of a process that writes nothing outside of the output and
        the scratch folder, and in which pytest loads no plugins of others.
        """
        path = [str(ROOT), str(self.site), os.environ.get('PYTHONPATH', '')]
        return {
            **os.environ,
            **{k: str(Path(self.scratch) / v) for k, v in CACHES.items()},
            'PYTHONPATH': os.pathsep.join(filter(None, path)),
            'PYTHONDONTWRITEBYTECODE': '1',
            'PYTEST_ADDOPTS': '',
            'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1',
        }


@dataclass(frozen=True)
class Phase:
    """A process that writes results to a file, and its output to a log. It is
    terminated at its limit, and only starts if `least` seconds remain.
    """

    name: str
    summary: str
    limit: float
    least: float
    in_background: bool = False
    # Whether it runs kernels in Triton's interpreter on a CPU.
    interprets: bool = False

    def start(self, spec: Spec, seconds: float) -> subprocess.Popen:
        spec, env = replace(spec, seconds=seconds), spec.env
        if self.interprets and spec.device == 'cpu':
            env['TRITON_INTERPRET'] = '1'  # Read when Triton is imported.
        with open(self.log(spec), 'w') as log:
            return subprocess.Popen(
                [
                    *(sys.executable, '-m', f'benchmarks.gpu.{self.name}'),
                    json.dumps(asdict(spec)),
                ],
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A separate group, to terminate with its children.
                start_new_session=True,
            )

    def log(self, spec: Spec) -> Path:
        return spec.logs / f'{self.name}.log'

    def run(self, spec: Spec, seconds: float) -> str:
        """Runs to the end, or to the limit. It stops by itself a bit before."""
        process = self.start(spec, seconds - min(GRACE, seconds / 4))
        return wait(process, seconds, self.log(spec), show=True)


PHASES = (
    Phase('environment', 'the device and its rates', 90, 5),
    Phase('each_kernel_once', 'forward, backward', 40, 5, interprets=True),
    Phase('epoch', 'training by phase, four cases', 120, 20),
    Phase('peers', 'torch-scatter, torch-sparse', 60, 0, in_background=True),
    Phase('kernels', 'against other libraries', 150, 15),
    Phase('correctness', 'against float64', 120, 20, interprets=True),
    Phase('sanitizer', 'memory accesses of each kernel', 40, 10),
    Phase('scale', 'a million users and items', 120, 60),
    Phase('more_epochs', 'training, the other cases', 120, 20),
)


def wait(
    process: subprocess.Popen, seconds: float, log: Path, show: bool = False
) -> str:
    """Waits for a process, terminates its group at the limit, and returns the
    outcome. On request, shows what is written to its log.
    """
    deadline = time.monotonic() + seconds
    try:
        with open(log, errors='replace') as file:
            while True:
                code = process.poll()
                text = file.read()
                if show and text:
                    with suppress(OSError):  # The terminal may be gone.
                        print(text, end='', file=sys.stderr, flush=True)
                if code is not None:
                    break
                if time.monotonic() > deadline:
                    return 'stopped at its time limit'
                time.sleep(INTERVAL)
    finally:  # Also after Ctrl-C.
        end(process)
    if code == 0:
        return 'done'
    *_, last = ['', *log.read_text(errors='replace').strip().split('\n')]
    return f'FAILED with status {code}: {last}'


def end(process: subprocess.Popen) -> None:
    """Terminates a process and its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
