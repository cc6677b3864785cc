from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.device import ROOT

# From the signal to stop to the one that no process survives.
GRACE = 5.0


@dataclass(frozen=True)
class Spec:
    """What every phase is told, as JSON."""

    device: str
    output: str
    scratch: str
    quick: bool = False
    root: str | None = None
    sources: str | None = None
    # A phase stops by itself when these are over.
    seconds: float = 0.0

    @classmethod
    def from_argv(cls) -> Spec:
        return cls(**json.loads(sys.argv[1]))

    def path(self, name: str) -> Path:
        """The file of a phase."""
        return Path(self.output) / f'{name}.json'

    @property
    def site(self) -> Path:
        """Where packages are installed that the machine lacks."""
        return Path(self.scratch) / 'site'


@dataclass(frozen=True)
class Phase:
    """A process that writes `NAME.json`, and is ended at its limit.

    `least` are the seconds below which it is not begun.
    """

    name: str
    summary: str
    limit: float
    least: float = 0.0
    in_background: bool = False

    def start(self, spec: Spec, seconds: float) -> subprocess.Popen:
        spec = Spec(**{**asdict(spec), 'seconds': seconds})
        spec.path(self.name).unlink(missing_ok=True)
        path = [str(ROOT), str(spec.site), os.environ.get('PYTHONPATH', '')]
        return subprocess.Popen(
            [
                sys.executable,
                '-m',
                f'benchmarks.gpu.{self.name}',
                json.dumps(asdict(spec)),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                'PYTHONPATH': os.pathsep.join(filter(None, path)),
            },
            stdout=sys.stderr,
            # A group of its own, to be ended with all that it starts.
            start_new_session=True,
        )

    def run(self, spec: Spec, seconds: float) -> str:
        return wait(self.start(spec, seconds), seconds + GRACE)


PHASES = (
    Phase('environment', 'the device and its rates', 30),
    Phase('correctness', 'every kernel against float64', 120, 20),
    Phase('peers', 'torch-scatter, torch-sparse', 60, in_background=True),
    Phase('kernels', 'against other libraries', 140, 20),
    Phase('epoch', 'training by phase', 90, 20),
    Phase('scale', 'a million users and items', 120, 60),
)


def wait(process: subprocess.Popen, seconds: float) -> str:
    """Waits for a process, ends its group at the limit, and says what became
    of it.
    """
    try:
        code = process.wait(timeout=max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        end(process)
        return 'stopped at its time limit'
    except BaseException:  # Ctrl-C, for one.
        end(process)
        raise
    return 'done' if code == 0 else f'FAILED with status {code}'


def end(process: subprocess.Popen) -> None:
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
