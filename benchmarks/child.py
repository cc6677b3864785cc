"""Runs a module in a separate process, to measure its peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.device import ROOT
from benchmarks.timing import read_status


class LimitError(RuntimeError):
    pass


def run_child(
    module: str,
    spec: dict[str, Any],
    memory: float,
    seconds: float,
    huge_pages: bool = False,
) -> dict[str, Any]:
    """Returns what `python -m module SPEC` prints as JSON. Ends the process if
    it exceeds the memory or the time limit. The process keeps the memory that
    it frees, as the system would clear each page anew. On request, PyTorch uses
    huge pages where the system grants them.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    process = subprocess.Popen(
        [sys.executable, '-m', module, json.dumps(spec)],
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            'PYTHONPATH': path.rstrip(os.pathsep),
            'MALLOC_MMAP_MAX_': '0',
            'MALLOC_TRIM_THRESHOLD_': str(2**31 - 1),
            'THP_MEM_ALLOC_ENABLE': str(int(huge_pages)),
        },
        text=True,
    )
    try:
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            if _resident(process.pid) > memory:
                raise LimitError(f'held more than {memory / 1e9:.1f} GB')
            if time.monotonic() > deadline:
                raise LimitError(f'took more than {seconds:.0f} s')
            time.sleep(0.05)
        # This fits into a pipe, so that the process never waited for it.
        out, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise RuntimeError(f'ended with status {process.returncode}')
    result = json.loads(out.splitlines()[-1])
    if 'failure' in result:
        raise RuntimeError(result['failure'])
    return result


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """In the child: prints the result for the SPEC, or the error."""
    try:
        try:
            result = work(json.loads(sys.argv[1]))
        except Exception as error:
            result = {'failure': f'{type(error).__name__}: {error}'}
        print(json.dumps(result))
    except KeyboardInterrupt:  # The parent reports it.
        sys.exit(130)


def _resident(pid: int) -> float:
    try:
        return read_status('VmRSS', pid)
    except OSError:  # It has just ended, or the system is not Linux.
        return 0.0
