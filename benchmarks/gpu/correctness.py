"""Runs the tests of a device in several processes. A process that loses its
CUDA context or crashes is replaced by a new one for the remaining tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.gpu.phase import ROOT, Spec
from benchmarks.gpu.results import Results

TESTS = ('tests/device', 'tests/test_parity.py')
# A quick run takes one in this number of cases.
QUICK_EVERY = 12
MAX_WORKERS = 8
# Statuses of pytest: tests passed; some failed; none were collected.
ENDED = (0, 1, 5)
MESSAGE_LENGTH = 400


class Worker:
    """A share of the tests."""

    def __init__(self, spec: Spec, number: int, count: int) -> None:
        self.spec, self.share = spec, f'{number}/{count}'
        self.path = spec.logs / f'correctness-{number}.jsonl'
        self.log = self.path.with_suffix('.log')
        threads = max(1, (os.cpu_count() or 1) // count)
        self.env = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        self.start()

    def start(self) -> None:
        with open(self.log, 'a') as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, '-m', 'pytest', '-q', *TESTS),
                    # A crash would lose captured output.
                    *('-s', '-p', 'no:cacheprovider'),
                    *('-p', 'benchmarks.gpu.recorder'),
                    *('--record', str(self.path), '--share', self.share),
                    *('--every', str(QUICK_EVERY if self.spec.quick else 1)),
                    *('--device', self.spec.device),
                ],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def cases(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        # The last line may be incomplete.
        *lines, _ = self.path.read_text().split('\n')
        found = (json.loads(line) for line in lines)
        return {case['name']: case for case in found}

    def is_over(self) -> bool:
        """Whether all tests ran. Continues after a crash."""
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


def main(spec: Spec) -> None:
    deadline = time.monotonic() + spec.seconds
    is_cpu = spec.device == 'cpu'
    results = Results(spec.path('correctness'), cases=[])
    cores = os.cpu_count() or 1
    count = min(MAX_WORKERS, cores if is_cpu else max(1, cores // 2))
    workers = [Worker(spec, n, count) for n in range(count)]

    def write(complete: bool = False) -> None:
        cases = [c for w in workers for c in w.cases().values()]
        for case in cases:  # The logs have the whole of it.
            if 'message' in case:
                case['message'] = case['message'][-MESSAGE_LENGTH:]
        results.write(cases=cases, complete=complete)

    # Whoever ends this process, ends its group, with the workers.
    while time.monotonic() < deadline and not results['complete']:
        over = all([worker.is_over() for worker in workers])
        write(over)
        time.sleep(1.0)
    for worker in workers:
        worker.process.terminate()
    write(results['complete'])


if __name__ == '__main__':
    main(Spec.from_argv())
