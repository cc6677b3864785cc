import json
import os
import pickle
import subprocess
import sys

import pytest

from tests.datasets import fuzz

# The first are made to do harm, the others by chance.
COUNT = 500
NAMES = [
    'pickle',
    'npy',
    'table',
    'zip',
    'torch',
    'checkpoint',
    'official',
    'recommender',
    'pretrained',
    'tiktok',
    'mmrec',
    'folder',
    'parquet',
    'movielens',
    'processed',
]


@pytest.fixture(scope='module')
def results(request, tmp_path_factory):
    r"""What a fresh process, which can be forked, found for each target."""
    count = request.config.getoption('--fuzz') or COUNT
    folder = tmp_path_factory.mktemp('fuzz') / 'inputs'
    out = subprocess.run(
        [sys.executable, fuzz.__file__, f'--count={count}']
        + [f'--folder={folder}'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [json.loads(line) for line in out.stdout.splitlines()]
    return count, {line['target']: line for line in lines}


@pytest.mark.parametrize('name', NAMES)
def test_reader(results, name):
    count, found = results
    result = found[name]
    assert result['violations'] == []
    assert result['read'] + result['refused'] == count
    # Some are still valid, many are not.
    assert min(result['read'], result['refused']) > count / 100


def test_all_targets_are_tested():
    assert NAMES == list(fuzz.targets())


def loads(folder):
    pickle.loads((folder / 'a.pkl').read_bytes())


def leaves_half(folder):
    (folder / 'half').write_bytes(b'x')
    raise ValueError(str(folder))


def allocates(folder):
    try:
        bytearray(2 * fuzz.MAX_MEMORY)
    except MemoryError:
        raise
    raise ValueError(str(folder))


def names_no_file(folder):
    raise ValueError('bad file')


def ends(folder):
    if (folder / 'a.pkl').read_bytes() != b'valid':
        os.abort()


@pytest.mark.parametrize(
    'read, problem',
    [
        (loads, 'pickle.find_class'),
        (leaves_half, "left ['half'] behind"),
        (allocates, 'MemoryError'),
        (names_no_file, 'names no file'),
        (ends, 'the process ended'),
    ],
)
def test_a_bad_reader_is_noticed(tmp_path, read, problem):
    def checked(folder):
        if (folder / 'a.pkl').read_bytes() != b'valid':
            read(folder)

    seeds = {'a.pkl#valid': b'valid'}
    target = fuzz.Target(seeds, fuzz.hostile_pickles(), checked)
    out = fuzz.fuzz(target, 20, 0, tmp_path / 'inputs')
    assert problem in out['violations'][0]['problem']
