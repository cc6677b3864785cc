import os
import re
import subprocess
import sys

import pytest

from tests.examples.conftest import EXAMPLES

pytest.importorskip('lightning')


def test_two_processes(shop, tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    command += ['--nproc-per-node', '2', EXAMPLES / 'lightning.py']
    command += ['--root', shop, '--dataset', 'shop', '--epochs', '2']
    out = subprocess.run(
        [*command, '--output', tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(EXAMPLES.parent)},
    )
    assert out.returncode == 0, out.stderr
    lines = [x for x in out.stdout.splitlines() if x.startswith('Epoch ')]
    # One process prints.
    assert [x.split(':')[0] for x in lines] == ['Epoch 1', 'Epoch 2']
    for line in lines:
        assert re.findall(r'(\w+) \d+\.\d\d s', line) == [
            'diffusion',
            'generate',
            'recommend',
            'evaluate',
        ]
    assert 'test/recall@20' in out.stdout
    (metrics,) = tmp_path.rglob('metrics.csv')
    assert 'val/recall@20' in metrics.read_text().splitlines()[0]
