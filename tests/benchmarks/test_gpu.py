import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main, parse_args

ROOT = Path(__file__).parents[2]
ENV = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}


def run(*args, root=ROOT):
    command = [sys.executable, '-m', 'benchmarks.gpu', '--device', 'cpu']
    return subprocess.run(
        [*command, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=root,
        env=ENV,
    )


def read(folder, name):
    return json.loads((folder / f'{name}.json').read_text())


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gpu')
    out = run('--quick', '--output', folder)
    assert out.returncode == 0, out.stdout + out.stderr
    (folder / 'stdout').write_text(out.stdout)
    return folder


def test_each_phase_leaves_a_file(output):
    for name in ('environment', 'correctness', 'kernels', 'epoch', 'scale'):
        assert read(output, name)['complete'], name
    assert read(output, 'environment')['ceilings']['copy'] > 0


def test_correctness(output):
    cases = read(output, 'correctness')['cases']
    outcomes = {case['outcome'] for case in cases}
    assert outcomes <= {'passed', 'skipped'} and 'passed' in outcomes
    names = ' '.join(case['name'] for case in cases)
    for file in ('spmm', 'propagate', 'info_nce', 'training', 'parity'):
        assert f'test_{file}.py' in names


def test_kernels(output):
    records = read(output, 'kernels')['records']
    families = {record['family'] for record in records}
    assert families == {'spmm', 'propagate', 'info_nce', 'topk', 'generate'}
    assert all(r['metrics']['ms'] > 0 for r in records if r['status'] == 'ok')


def test_epoch(output):
    for record in read(output, 'epoch')['records']:
        assert record['status'] == 'ok'
        assert record['metrics']['epoch_s'] > 0


def test_summary(output):
    text = (output / 'summary.txt').read_text()
    assert text == (output / 'stdout').read_text()
    assert len(text.splitlines()) <= 80
    assert 'failed: 0' in text


def test_names_a_broken_kernel(tmp_path):
    for folder in ('diffmm_geo', 'benchmarks', 'tests'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / 'setup.cfg', tmp_path)
    kernels = tmp_path / 'diffmm_geo/ops/spmm/triton_kernels.py'
    source = kernels.read_text()
    line = 'return tl.fma(value, x.to(total.dtype), total)'
    assert line in source
    kernels.write_text(source.replace(line, 'return total'))
    options = '--quick', '--phases', 'correctness', '--output'
    out = run(*options, tmp_path / 'out', root=tmp_path)
    assert out.returncode == 1
    assert 'tests/device/test_spmm.py::test_channels[triton-' in out.stdout
    # The tests of other kernels continued.
    cases = read(tmp_path / 'out', 'correctness')['cases']
    assert 0 < sum(c['outcome'] == 'failed' for c in cases) < len(cases) / 2


def test_leaves_out_the_last_phases(tmp_path, capfd):
    phases = ['--device', 'cpu', '--phases', 'environment', 'scale']
    assert main([*phases, '--seconds', '25', '--output', str(tmp_path)]) == 0
    assert 'scale: left out' in capfd.readouterr().out


@pytest.mark.parametrize(
    'args, message',
    [
        (['--sources', 'nowhere'], "--sources: no folder 'nowhere'"),
        (['--phases', 'kernel'], 'invalid choice'),
        (['--seconds', '0'], 'above zero'),
    ],
)
def test_wrong_arguments(args, message, capsys):
    with pytest.raises(SystemExit) as error:
        parse_args(['--device', 'cpu', *args])
    assert error.value.code == 2 and message in capsys.readouterr().err
