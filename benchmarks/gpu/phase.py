from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.device import ROOT

# The seconds from SIGTERM to SIGKILL.
GRACE = 5.0


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
        """The file of a phase."""
        return Path(self.output) / f'{name}.json'

    @property
    def site(self) -> Path:
        """The folder of packages that the machine lacks."""
        return Path(self.scratch) / 'site'


@dataclass(frozen=True)
class Phase:
    """A process that writes `NAME.json`, and is terminated at its limit. It
    only starts if `least` seconds remain.
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
            # A separate group, to terminate with its children.
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
    """Waits for a process, terminates its group at the limit, and returns the
    outcome.
    """
    try:
        code = process.wait(timeout=max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        end(process)
        return 'stopped at its time limit'
    except BaseException:  # For example, Ctrl-C.
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
