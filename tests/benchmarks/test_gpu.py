import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import limit_of
from benchmarks.gpu.phase import PHASES
from benchmarks.gpu.sanitizer import FOUND, check
from benchmarks.gpu.summary import failures, summarize

ROOT = Path(__file__).parents[2]
ENV = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}


COMMAND = [sys.executable, '-m', 'benchmarks.gpu', '--device', 'cpu']


def run(*args, root=ROOT, **env):
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**ENV, **env},
    )


def read(folder, name):
    return json.loads((folder / f'{name}.json').read_text())


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder, home = (tmp_path_factory.mktemp(name) for name in ('gpu', 'home'))
    base = site.getuserbase()  # Where packages may be.
    options = '--quick', '--output', folder
    out = run(*options, HOME=str(home), PYTHONUSERBASE=base)
    # Nothing is written outside of the output.
    assert not list(home.iterdir())
    assert out.returncode == 0, out.stdout + out.stderr
    assert (folder / 'summary.txt').read_text() == out.stdout
    return folder


FILES = 'environment each_kernel_once epoch kernels correctness scale'.split()


def test_writes_eight_files(output):
    names = {f'{name}.json' for name in FILES} | {'summary.txt', 'logs.tar.gz'}
    assert {path.name for path in output.iterdir()} == names
    assert all(read(output, name)['complete'] for name in FILES)
    assert read(output, 'environment')['ceilings']['copy'] > 0
    with tarfile.open(output / 'logs.tar.gz') as tar:
        names = tar.getnames()
        log = tar.extractfile('logs/correctness-0.log').read().decode()
    phases = [phase.name for phase in PHASES if not phase.in_background]
    assert {f'logs/{name}.log' for name in phases} <= set(names)
    assert 'logs/correctness-1.jsonl' in names and ' passed' in log


def test_each_kernel_is_right(output):
    found = read(output, 'each_kernel_once')
    assert {case['outcome'] for case in found['cases']} == {'passed'}
    assert all(case['error'] < 1e-2 for case in found['cases'])
    assert found['sanitizer']['outcome'] == 'not available'
    cases = read(output, 'correctness')['cases']
    outcomes = {case['outcome'] for case in cases}
    assert outcomes <= {'passed', 'skipped'} and 'passed' in outcomes
    names = ' '.join(case['name'] for case in cases)
    for file in ('spmm', 'propagate', 'info_nce', 'training', 'parity'):
        assert f'test_{file}.py' in names


def test_times_and_summary(output):
    records = read(output, 'kernels')['records']
    families = {record['family'] for record in records}
    assert families == {'spmm', 'propagate', 'info_nce', 'topk', 'generate'}
    assert all(r['metrics']['ms'] > 0 for r in records if r['status'] == 'ok')
    for record in read(output, 'epoch')['records']:
        assert record['status'] == 'ok' and record['metrics']['epoch_s'] > 0
        assert 'not_counted' not in record['metrics']
    text = (output / 'summary.txt').read_text()
    assert 'each_kernel_once: 9 passed' in text and 'failed: 0' in text
    assert len(text.splitlines()) <= 80


def test_names_a_broken_kernel(tmp_path):
    for folder in ('diffmm_geo', 'benchmarks', 'tests'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / 'setup.cfg', tmp_path)
    kernels = tmp_path / 'diffmm_geo/ops/spmm/triton_kernels.py'
    source = kernels.read_text()
    line = 'return tl.fma(value, x.to(total.dtype), total)'
    assert line in source
    kernels.write_text(source.replace(line, 'return total'))
    options = '--quick', '--phases', 'each_kernel_once', 'correctness'
    out = run(*options, '--output', tmp_path / 'out', root=tmp_path)
    assert out.returncode == 1
    assert 'spmm float32: ValueError: error' in out.stdout
    assert 'tests/device/test_spmm.py::test_channels[triton-' in out.stdout
    # The tests of other kernels continued.
    cases = read(tmp_path / 'out', 'correctness')['cases']
    assert 0 < sum(c['outcome'] == 'failed' for c in cases) < len(cases) / 2


def fake(folder, code, said='', then=''):
    r"""A sanitizer that says something, and ends with a status."""
    path = folder / 'sanitizer'
    path.write_text(f"#!/bin/sh\necho '{said}'\n{then}\nexit {code}\n")
    path.chmod(0o755)
    return check([str(path)], dict(os.environ), folder / 'log', 1.0)


INVALID = '========= Invalid __global__ read of size 4 bytes'


@pytest.mark.parametrize(
    'args, outcome',
    [
        ((0, '========= ERROR SUMMARY: 0 errors'), 'passed'),
        ((FOUND, INVALID), 'failed'),
        ((FOUND, '========= something new'), 'failed'),
        # What was found before the time limit counts.
        ((0, INVALID, 'exec sleep 60'), 'failed'),
        ((0, '', 'exec sleep 60'), 'not available'),
        ((1, '========= Error: Device not supported.'), 'not available'),
    ],
)
def test_sanitizer(args, outcome, tmp_path):
    found = fake(tmp_path, *args)
    assert found['outcome'] == outcome
    if args[0] == 1:
        assert 'Device not supported' in found['message']


def test_wrong_access_fails_the_run(tmp_path):
    found = {'outcome': 'failed', 'message': 'Invalid __global__ read'}
    path = tmp_path / 'each_kernel_once.json'
    path.write_text(json.dumps({'complete': True, 'sanitizer': found}))
    assert list(failures(tmp_path, {})) == [f'sanitizer: {found["message"]}']


def test_summary_has_what_exists(tmp_path):
    assert 'not known' in summarize(tmp_path, {}, 1.0)
    environment = {
        'environment': {'device': 'A GPU', 'driver': '1.2', 'commit': 'abc'},
        'limits': {'clocks.max.sm': '1980 MHz'},
        'ceilings': {'copy': 4e12},
        'clocks': {'copy': [{'clocks.sm': '1500 MHz'}]},
    }
    environment['environment']['versions'] = {'torch': '2.11'}
    (tmp_path / 'environment.json').write_text(json.dumps(environment))
    text = summarize(tmp_path, {}, 1.0)
    assert 'A GPU' in text and 'copy 4000 GB/s' in text
    assert 'clocks: copy 1500 MHz (of 1980 MHz)' in text


def test_wants_a_device(tmp_path):
    args = '--device', 'cuda:99', '--phases', 'environment', 'epoch'
    out = run(*args, '--output', tmp_path)
    assert out.returncode == 1
    assert 'argument --device' in out.stdout
    assert 'epoch: left out: the device is not available' in out.stdout


# After a second, no file of a phase is there yet.
@pytest.mark.parametrize(
    ('seconds', 'number'), [(1.0, signal.SIGHUP), (6.0, signal.SIGTERM)]
)
def test_terminated(seconds, number, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, '--output', str(tmp_path)],
        **{'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL},
        **{'cwd': ROOT, 'env': ENV},
    )
    time.sleep(seconds)
    process.send_signal(number)
    assert process.wait(timeout=20) == 130
    assert ': interrupted' in (tmp_path / 'summary.txt').read_text()
    with tarfile.open(tmp_path / 'logs.tar.gz') as tar:
        assert 'logs/environment.log' in tar.getnames()
    for path in tmp_path.iterdir():
        if path.suffix == '.json':
            json.loads(path.read_text())
        else:
            assert path.name in ('summary.txt', 'logs.tar.gz')


def test_the_first_process_needs_no_torch():
    code = 'import sys, benchmarks.gpu.__main__; print("torch" in sys.modules)'
    command = [sys.executable, '-c', code]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.stdout == 'False\n', out.stderr


def test_phases_leave_time_for_the_next():
    environment, once, epoch, _, kernels, *_ = PHASES
    later = PHASES[1:]
    # With time for all, a phase takes what it may.
    assert limit_of(environment, later, 1000) == environment.limit
    # In a minute, there is time for an epoch and a table of kernels.
    left = 55 - limit_of(environment, later, 55)
    left -= limit_of(once, PHASES[2:], left)
    assert left >= epoch.least + kernels.least
    left -= limit_of(epoch, PHASES[3:], left)
    assert left >= kernels.least
