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
CONTENT = {'x': torch.arange(1000.0)}


FOREIGN = {
    'pickle': lambda path: path.write_bytes(pickle.dumps(COMMAND)),
    'command': lambda path: torch.save(COMMAND, path),
    'no content': lambda path: torch.save(
        {'format': 'diffmm_geo.checkpoint'}, path
    ),
    'list': lambda path: torch.save([1, 2], path),
    'weights': lambda path: torch.save({'model': torch.ones(2)}, path),
    'archive': lambda path: zipfile.ZipFile(path, 'w').close(),
    'text': lambda path: path.write_text('{}'),
}


@pytest.mark.parametrize('kind', FOREIGN)
def test_foreign(tmp_path, kind):
    path = tmp_path / 'a.ckpt'
    with pytest.raises(FileNotFoundError, match='a.ckpt'):
        read_checkpoint(path)
    FOREIGN[kind](path)
    with pytest.raises(ValueError, match=r'a.ckpt.*expected'):
        read_checkpoint(path)
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
