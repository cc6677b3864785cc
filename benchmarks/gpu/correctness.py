"""Runs the tests of a device in several processes. One that loses its CUDA
context, or crashes, is replaced by one for the tests that are left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.device import ROOT
from benchmarks.gpu.phase import Spec, end
from benchmarks.gpu.results import Results

TESTS = ('tests/device', 'tests/test_parity.py')
# Of the cases, a quick run takes one in so many.
QUICK_EVERY = 12
MAX_WORKERS = 8
# Pytest's own: tests passed; some failed; none were left.
ENDED = (0, 1, 5)
SANITIZER = 'compute-sanitizer'


class Worker:
    """A share of the tests."""

    def __init__(self, spec: Spec, number: int, count: int) -> None:
        self.spec, self.share = spec, f'{number}/{count}'
        self.path = Path(spec.scratch) / f'correctness-{number}.jsonl'
        self.log = self.path.with_suffix('.log')
        threads = max(1, (os.cpu_count() or 1) // count)
        self.env = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        if spec.device == 'cpu':
            self.env['TRITON_INTERPRET'] = '1'
        self.start()

    def start(self) -> None:
        with open(self.log, 'a') as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, '-m', 'pytest', '-q', *TESTS),
                    *('-p', 'no:cacheprovider'),
                    *('-p', 'benchmarks.gpu.recorder'),
                    *('--record', str(self.path), '--share', self.share),
                    *('--every', str(QUICK_EVERY if self.spec.quick else 1)),
                    *('--device', self.spec.device),
                ],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cases(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        # The last line may be half written.
        *lines, _ = self.path.read_text().split('\n')
        found = (json.loads(line) for line in lines)
        return {case['name']: case for case in found}

    def is_over(self) -> bool:
        """Whether all tests were run. Goes on after a crash."""
        code = self.process.poll()
        if code is None:
            return False
        if code in ENDED:
            return True
        begun = [c for c in self.cases().values() if c['outcome'] == 'begun']
        lost = any(c['outcome'] == 'failed' for c in self.cases().values())
        if not begun and not lost:  # It never came to a test.
            tail = self.log.read_text().strip()[-400:]
            begun = [{'name': f'{SELF} {self.share}', 'message': tail}]
        with open(self.path, 'a') as file:
            for case in begun:
                message = case.get('message') or f'ended with status {code}'
                line = {**case, 'outcome': 'failed', 'message': message}
                file.write(json.dumps(line) + '\n')
        if begun and begun[0]['name'].startswith(SELF):
            return True
        self.start()
        return False


SELF = 'the process of tests'


class Sanitizer:
    """Each kernel once, with every access to memory checked."""

    name = f'{SANITIZER}: each kernel once'

    def __init__(self, spec: Spec) -> None:
        self.log = Path(spec.scratch) / 'sanitizer.log'
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(
                [
                    *(SANITIZER, '--tool', 'memcheck'),
                    *('--error-exitcode', '1'),
                    *(sys.executable, '-m', 'benchmarks.gpu.each_kernel_once'),
                    spec.device,
                ],
                cwd=ROOT,
                env={**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def case(self) -> dict[str, Any]:
        code = self.process.poll()
        outcome = {None: 'begun', 0: 'passed'}.get(code, 'failed')
        tail = '' if outcome == 'passed' else self.log.read_text()[-800:]
        return {'name': self.name, 'outcome': outcome, 'message': tail}


def main(spec: Spec) -> None:
    deadline = time.monotonic() + spec.seconds
    is_cpu = spec.device == 'cpu'
    results = Results(spec.path('correctness'), cases=[])
    cores = os.cpu_count() or 1
    count = min(MAX_WORKERS, cores if is_cpu else max(1, cores // 2))
    workers = [Worker(spec, n, count) for n in range(count)]
    sanitizer = None
    if not is_cpu and shutil.which(SANITIZER):
        sanitizer = Sanitizer(spec)

    def write(complete: bool = False) -> None:
        cases = {k: v for w in workers for k, v in w.cases().items()}
        found = [*cases.values()] + ([sanitizer.case()] if sanitizer else [])
        results.write(cases=found, complete=complete)

    try:
        while time.monotonic() < deadline:
            over = all([worker.is_over() for worker in workers])
            write(over)
            if over and (
                sanitizer is None or sanitizer.process.poll() is not None
            ):
                break
            time.sleep(1.0)
    finally:
        for process in [w.process for w in workers] + (
            [sanitizer.process] if sanitizer else []
        ):
            end(process)
        write(results['complete'])


if __name__ == '__main__':
    main(Spec.from_argv())
