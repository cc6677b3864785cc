"""Runs each kernel once more, and checks every memory access, where that is
supported.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.phase import ROOT, Spec
from benchmarks.gpu.results import Results

SANITIZER = 'compute-sanitizer'
FOLDERS = ('/usr/local/cuda/bin', '/opt/cuda/bin')
# Its status if it found an error.
FOUND = 86
OPTIONS = (
    *('--tool', 'memcheck', '--error-exitcode', str(FOUND)),
    # Failed calls are not errors of a kernel: libraries try what there is.
    *('--report-api-errors', 'no'),
)


def find_sanitizer() -> str | None:
    path = os.pathsep.join([os.environ.get('PATH', ''), *FOLDERS])
    return shutil.which(SANITIZER, path=path)


def check(
    command: Sequence[str], env: dict[str, str], log: Path, seconds: float
) -> dict[str, Any]:
    """Runs a command under the sanitizer, and returns the outcome: `passed`,
    `failed` if it found a wrong access, and `not available` otherwise.
    """
    code: int | None = None
    with open(log, 'w') as file, suppress(subprocess.TimeoutExpired):
        code = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        ).returncode
    text = log.read_text(errors='replace')
    errors = re.findall(r'^=+ (Invalid __.*|Misaligned .*)$', text, re.M)
    if code == FOUND or errors:
        message = '; '.join(dict.fromkeys(errors)) or text.strip()[-400:]
        return {'outcome': 'failed', 'message': message}
    if code == 0:
        return {'outcome': 'passed'}
    reason = f'took more than {seconds:.0f} s'
    if code is not None:
        said = re.findall(r'^=+ (.*\w.*)$', text, re.M)
        reason = f'ended with status {code}: {"; ".join(said)[-200:]}'
    return {'outcome': 'not available', 'message': reason}


def main(spec: Spec) -> None:
    results = Results.resume(spec.path('each_kernel_once'), cases=[])
    path = find_sanitizer()
    if spec.device == 'cpu' or path is None:
        what = 'CUDA' if spec.device == 'cpu' else SANITIZER
        found = {'outcome': 'not available', 'message': f'needs {what}'}
    else:
        # Results of its own, which nobody reads.
        inner = replace(spec, output=spec.scratch)
        kernels = 'benchmarks.gpu.each_kernel_once', json.dumps(asdict(inner))
        found = check(
            [path, *OPTIONS, sys.executable, '-m', *kernels],
            # An access beyond a tensor is only seen if it leaves its memory.
            {**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'},
            spec.logs / 'compute-sanitizer.log',
            spec.seconds,
        )
    print(' ', *found.values())
    results.write(sanitizer=found)


if __name__ == '__main__':
    main(Spec.from_argv())
