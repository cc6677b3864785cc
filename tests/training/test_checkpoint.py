import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from diffmm_geo.training.checkpoint import (
    checkpoint_path,
    read_checkpoint,
    write_checkpoint,
)
from tests.pickled_call import PickledCall

COMMAND = PickledCall(exec, 'raise SystemExit("executed")')
CONTENT = {'x': torch.arange(1000.0), 'key': [('a', 'b'), 1]}


def read(path):
    out = read_checkpoint(path)
    return {key: out[key] for key in CONTENT}


def test_round_trip(tmp_path):
    write_checkpoint(tmp_path / 'a.ckpt', CONTENT)
    out = read(tmp_path / 'a.ckpt')
    assert out['x'].equal(CONTENT['x']) and out['key'] == CONTENT['key']
    assert [p.name for p in tmp_path.iterdir()] == ['a.ckpt']


@pytest.mark.parametrize('length', [0, 1, 0.5, 0.99, -1])
def test_truncated(tmp_path, length):
    path = tmp_path / 'a.ckpt'
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    if isinstance(length, float):
        length = int(length * len(whole))
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r'a.ckpt.*expected a whole'):
        read(path)


def test_flipped_bit(tmp_path):
    path = tmp_path / 'a.ckpt'
    write_checkpoint(path, CONTENT)
    content = bytearray(path.read_bytes())
    place = content.find(torch.tensor([499.0, 500.0]).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match='expected a whole'):
        read(path)


def test_followed_by_something(tmp_path):
    path = tmp_path / 'a.ckpt'
    write_checkpoint(path, {'epoch': 1})
    path.write_bytes(path.read_bytes() + bytes(5000))
    with pytest.raises(ValueError, match='expected a whole'):
        read(path)


def foreign_files(path):
    yield lambda: path.write_bytes(pickle.dumps(COMMAND))
    yield lambda: torch.save(COMMAND, path)
    yield lambda: torch.save({'format': 'diffmm_geo.checkpoint'}, path)
    yield lambda: torch.save([1, 2], path)
    yield lambda: torch.save({'model': torch.ones(2)}, path)
    yield lambda: zipfile.ZipFile(path, 'w').close()
    yield lambda: path.write_text('{}')


@pytest.mark.parametrize('number', range(7))
def test_foreign(tmp_path, number):
    path = tmp_path / 'a.ckpt'
    list(foreign_files(path))[number]()
    with pytest.raises(ValueError, match=r'a.ckpt.*expected'):
        read(path)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='a.ckpt'):
        read_checkpoint(tmp_path / 'a.ckpt')


def test_folder_is_a_file(tmp_path):
    path = tmp_path / 'file'
    path.touch()
    with pytest.raises(ValueError, match="'checkpoint_dir'"):
        checkpoint_path(path)


def test_write_that_fails_leaves_the_last(tmp_path, monkeypatch):
    path = checkpoint_path(tmp_path / 'new')
    write_checkpoint(path, CONTENT)
    before = path.read_bytes()

    def fail(content, temporary):
        Path(temporary).write_bytes(b'begun')
        raise OSError('no space left on device')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='no space'):
        write_checkpoint(path, {'n': 2})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['last.ckpt']


def test_killed_at_random_moments(tmp_path):
    r"""SIGKILL 20 times; the history and weights are those of a run that was
    left alone.
    """
    script = Path(__file__).parent / 'killed_runs.py'
    out = subprocess.run(
        [sys.executable, script, '20', tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert out.returncode == 0, out.stderr
    assert 'killed 20 times' in out.stdout
