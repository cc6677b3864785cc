import json
import os
import pickle
import subprocess
import sys

import pytest

from tests.datasets import fuzz

# The first are made to do harm, the others by chance.
COUNT = 500
NAMES = 'pickle npy interactions parquet table csv lists zip torch checkpoint'
NAMES = [*NAMES.split(), 'recommender', 'pretrained', 'mmrec']


@pytest.fixture(scope='module')
def results(request, tmp_path_factory):
    r"""What a process of bounded memory found for each reader."""
    count = request.config.getoption('--fuzz') or COUNT
    folder = tmp_path_factory.mktemp('fuzz') / 'inputs'
    out = subprocess.run(
        [sys.executable, '-m', fuzz.__name__, f'--count={count}']
        + [f'--folder={folder}'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [json.loads(line) for line in out.stdout.splitlines()]
    return count, {line['reader']: line for line in lines}


@pytest.mark.parametrize('name', NAMES)
def test_reader(results, name):
    count, found = results
    assert name in found, 'the process ended'
    result = found[name]
    assert result['problems'] == []
    assert result['read'] + result['refused'] == count
    # Some are still valid, many are not.
    assert min(result['read'], result['refused']) > count / 100


def loads(folder):
    pickle.loads((folder / 'a.pkl').read_bytes())


def leaves_half(folder):
    (folder / 'half').write_bytes(b'x')
    raise ValueError(str(folder))


def names_no_file(folder):
    raise ValueError('bad file')


@pytest.mark.parametrize(
    'read, problem',
    [
        (loads, 'pickle.find_class'),
        (leaves_half, 'half'),
        (names_no_file, 'names no file'),
    ],
)
def test_a_bad_reader_is_noticed(tmp_path, read, problem):
    (tmp_path / 'a.pkl').write_bytes(fuzz.hostile_files()[0])
    sys.addaudithook(fuzz.audit)
    _, found = fuzz.problem_of(read, tmp_path)
    assert problem in found
