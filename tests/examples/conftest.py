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
NUM_MOVIES = 80  # And users.


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


@pytest.fixture(scope='session')
def cold_shop(shop, tmp_path_factory):
    r"""The shop with 25 further items without training interactions."""
    root = tmp_path_factory.mktemp('cold')
    (root / 'raw').mkdir()
    text = (shop / 'raw' / 'shop.inter').read_text()
    text += ''.join(f'{n}\t{40 + n}\t1\t0\t2\n' for n in range(25))
    (root / 'raw' / 'cold.inter').write_text(text)
    rng = np.random.default_rng(1)
    for name in ('image', 'text'):
        x = np.load(shop / 'raw' / f'{name}_feat.npy')
        new = rng.normal(size=(25, 8)).astype(np.float32)
        np.save(root / 'raw' / f'{name}_feat.npy', np.concatenate([x, new]))
    return root


@pytest.fixture
def movies(tmp_path):
    r"""A folder with the files that MovieLens-100K downloads."""
    rng = np.random.default_rng(0)
    raw = tmp_path / 'movielens-100k' / 'raw'
    raw.mkdir(parents=True)
    tables = {
        'item': [
            'item_id:token\tmovie_title:token_seq\trelease_year:token\t'
            'class:token_seq',
            *(
                f'{i}\tStory {i % 7} of {i}\t19{50 + i}\t'
                f'{"War" if i % 2 else "Comedy"}'
                for i in range(1, NUM_MOVIES + 1)
            ),
        ],
        'inter': [
            'user_id:token\titem_id:token\trating:float\ttimestamp:float',
            *(
                f'{u}\t{2 * i + u % 2 + 1}\t5\t0'
                for u in range(1, NUM_MOVIES + 1)
                for i in rng.permutation(NUM_MOVIES // 2)[:12]
            ),
        ],
        'user': ['user_id:token', *map(str, range(1, NUM_MOVIES + 1))],
    }
    for name, lines in tables.items():
        (raw / f'ml-100k.{name}').write_text('\n'.join(lines) + '\n')
    return tmp_path


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
