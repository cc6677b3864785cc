import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.run import main, parse_args

RUN = Path(__file__).parents[2] / 'benchmarks' / 'run.py'
# As for users, without Triton's interpreter as a backend.
ENV = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
TINY = 'power-60x40x300'
# Of backends, what is optional.
NEEDS = {'torch_sparse': 'torch_sparse', 'scatter': 'torch_scatter'}


def run(*args):
    return subprocess.run(
        [sys.executable, RUN, *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
        env=ENV,
    )


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bench')
    options = ['--quick', '--graphs', TINY, 'power-90x50x500']
    # On a busy machine, two threads wait for each other.
    options += ['--threads', 1, '--sizes', 200, 400, '--hidden', 16]
    options += ['--seconds', 0.001]
    out = run('all', *options, '--modes', 'fp32', '--output', folder)
    (folder / 'stdout').write_text(out.stdout)
    return folder


@pytest.fixture(scope='module')
def results(output):
    return json.loads((output / 'results.json').read_text())


def of(results, family):
    return [r for r in results['records'] if r['family'] == family]


def test_results_say_where_they_come_from(results):
    assert results['schema'] == 1 and results['complete']
    assert results['command'].startswith('benchmarks/run.py all --quick')
    environment = results['environment']
    assert {'device', 'driver', 'commit', 'threads'} <= environment.keys()
    assert environment['versions']['torch']
    assert results['ceilings']['copy'] > 0
    assert results['ceilings']['matmul_float32'] > 0


def test_every_family_is_measured(results):
    for family in ('spmm', 'propagate', 'info_nce', 'generate', 'evaluate'):
        for record in of(results, family):
            if record['ours']:
                package = NEEDS.get(record['labels']['backend'], 'torch')
                is_installed = find_spec(package) is not None
                status = 'ok' if is_installed else 'not available'
                assert record['status'] == status, record
            assert not record['reason'].startswith('error '), record
            if record['status'] != 'ok':
                assert record['reason']
                assert 'ms' not in record['metrics']
                continue
            m = record['metrics']
            assert 0 < m['ms_p10'] <= m['ms'] <= m['ms_p90']
            assert m['repeats'] >= 3 and m['sets'] >= 1
            assert m['speedup'] > 0 and m['gb_per_s'] > 0
            assert 0 <= m['share_of_copy'] and m['error'] < 0.1


def test_spmm_goes_over_channels_types_and_directions(results):
    ours = [r for r in of(results, 'spmm') if r['labels']['backend'] == 'ours']
    labels = [r['labels'] for r in ours]
    for name, count in (('graph', 2), ('channels', 2), ('dtype', 2)):
        assert len({x[name] for x in labels}) == count
    directions = {x['direction'] for x in labels}
    assert directions == {'forward', 'grad_x', 'grad_value'}
    assert all(r['metrics']['speedup'] == 1 for r in ours)


def test_epochs_are_measured_by_phase(results):
    (record, _) = of(results, 'epoch')
    m = record['metrics']
    phases = [f'{p}_s' for p in ('diffusion', 'generate', 'recommend')]
    assert m['epoch_s'] == pytest.approx(sum(m[p] for p in phases))
    assert m['evaluate_s'] > 0
    assert m['peak_bytes'] > m['base_bytes'] > 0


def test_tables_and_plots_are_written(output, results):
    stdout = (output / 'stdout').read_text()
    for family in {r['family'] for r in results['records']}:
        table = (output / f'{family}.txt').read_text()
        assert table.startswith(results['environment']['device'])
        assert f'\n{family}\n' in stdout
    plots = 'spmm_channels spmm_edges spmm_roofline propagate_channels '
    plots += 'info_nce_nodes epoch_phases growth_growth'
    for name in plots.split():
        png = (output / f'{name}.png').read_bytes()
        assert png.startswith(b'\x89PNG') and len(png) > 5000
    assert not list(output.glob('*.tmp'))


@pytest.mark.parametrize(
    'args, message',
    [
        (['smpp'], "invalid choice: 'smpp' (choose from"),
        (['spmm', '--graphs', 'tictok'], "no graph 'tictok' (choose from ti"),
        (['spmm', '--backends', 'mkl'], "no 'mkl' (choose from ours, naive"),
        (['spmm', '--modes', 'fp32'], 'spmm has none'),
        (['spmm', '--memory', '-1'], '--memory: needs to be above zero'),
        (['scale', '--fraction', '0.05'], '--fraction'),
    ],
)
def test_bad_arguments(args, message, capsys):
    with pytest.raises(SystemExit) as error:
        parse_args(args)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_files_say_where_to_get_them(tmp_path, monkeypatch, capsys):
    ceilings = {'copy': 1e10}
    monkeypatch.setattr('benchmarks.device.ceilings', lambda device: ceilings)
    options = ['--root', str(tmp_path), '--output', str(tmp_path)]
    assert main(['spmm', '--graphs', 'tiktok', *options]) == 2
    error = capsys.readouterr().err
    assert 'trnMat.pkl' in error and 'HKUDS/DiffMM' in error


def test_interruption_leaves_whole_files(tmp_path):
    process = subprocess.Popen(
        [sys.executable, RUN, 'spmm', '--threads', '1', '--graphs', TINY]
        + ['--output', tmp_path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        # A background process would ignore the signal.
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),
    )
    path = tmp_path / 'results.json'
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert 'Traceback' not in stderr
    results = json.loads(path.read_text())
    assert results['records'] and not results['complete']
    assert (tmp_path / 'spmm.txt').exists()
    assert not list(tmp_path.glob('*.tmp'))
