"""A pytest plugin that runs a share of the tests, and appends the outcome of
each to a file at once, as a line of JSON: `pytest -p benchmarks.gpu.recorder
--record FILE --share 0/4 --every 1`.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch

# The status of a process with a lost CUDA context: after an illegal access, all
# further calls fail.
LOST = 70


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--record')
    parser.addoption('--share', default='0/1')
    parser.addoption('--every', type=int, default=1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config), 'recorder')


class Recorder:
    def __init__(self, config: pytest.Config) -> None:
        self.path = config.getoption('--record')
        self.share = [int(n) for n in config.getoption('--share').split('/')]
        self.every = config.getoption('--every')

    def add(self, name: str, outcome: str, **entries: Any) -> None:
        with open(self.path, 'a') as file:
            line = {'name': name, 'outcome': outcome, **entries}
            file.write(json.dumps(line) + '\n')

    # After the hooks of the tests, which mark skipped ones.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        number, count = self.share
        chosen = items[:: self.every][number::count]
        done = set()
        if os.path.exists(self.path):
            with open(self.path) as file:
                done = {json.loads(line)['name'] for line in file}
        items[:] = [item for item in chosen if item.nodeid not in done]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.add(nodeid, 'begun')

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Of the three reports of a test, takes the call, or the one that did
        # not pass.
        if report.when != 'call' and report.outcome == 'passed':
            return
        message = ''
        if report.outcome == 'failed':
            message = str(report.longrepr)
        self.add(
            report.nodeid,
            report.outcome,
            seconds=round(report.duration, 3),
            message=message,
        )
        if report.outcome == 'failed' and torch.cuda.is_initialized():
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                os._exit(LOST)
