import io
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'


@pytest.fixture(scope='session')
def shop(tmp_path_factory):
    r"""A small data set in MMRec's format: two tastes, 40 items."""
    root = tmp_path_factory.mktemp('shop')
    (root / 'raw').mkdir()
    rng = np.random.default_rng(0)
    lines = ['userID\titemID\trating\ttimestamp\tx_label']
    for user in range(30):
        items = user % 2 + 2 * rng.permutation(20)[:6]
        for n, item in enumerate(items):
            lines.append(f'{user}\t{item}\t1\t0\t{max(0, n - 3)}')
    (root / 'raw' / 'shop.inter').write_text('\n'.join(lines) + '\n')
    for name in ('image', 'text'):
        x = rng.normal(size=(40, 8)).astype(np.float32)
        np.save(root / 'raw' / f'{name}_feat.npy', x)
    return root


def run_script(name, *args, new_process=False):
    r"""Runs an example as a script, by default in this process."""
    args = [str(EXAMPLES / name), *map(str, args)]
    if new_process:
        command = [sys.executable, *args]
        return subprocess.run(command, capture_output=True, text=True)
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, 'argv', args),
        # As Python does for a script.
        mock.patch.object(sys, 'path', [str(EXAMPLES), *sys.path]),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            runpy.run_path(args[0], run_name='__main__')
            code = 0
        except SystemExit as error:
            code = error.code or 0
    if isinstance(code, str):
        code, message = 1, f'{code}\n'
        stderr.write(message)
    return subprocess.CompletedProcess(
        args, code, stdout.getvalue(), stderr.getvalue()
    )


@pytest.fixture(scope='session')
def run_example():
    return run_script
