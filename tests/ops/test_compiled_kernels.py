import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('compile_kernels.py')


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    pytest.importorskip('triton')
    env = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    env['PYTHONPATH'] = str(SCRIPT.parents[2])
    env['TRITON_CACHE_DIR'] = str(tmp_path_factory.mktemp('triton'))
    out = subprocess.run(
        [sys.executable, SCRIPT], env=env, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


def test_registers_suffice(report):
    assert len(report) > 0
    for name, kernel in report.items():
        assert kernel['stack'] == kernel['local'] == 0, name
        # A multiprocessor holds five blocks of 128 threads, or four for
        # unaligned rows, which need more addresses.
        assert kernel['reg'] <= (128 if '/50' in name else 96), name


def test_no_atomics(report):
    for name, kernel in report.items():
        assert kernel['atomics'] == 0, name


@pytest.mark.parametrize(
    'case',
    [
        'sm_90/fp32/64',
        'sm_90/fp32/192',
        'sm_90/bf16/64',
        'sm_90/fp64/64',
        'sm_80/fp32/64',
        'sm_100/fp32/64',
    ],
)
def test_lanes_load_16_bytes(report, case):
    # Each round loads four entries, plus self-loops. Kernels with both sides
    # load twice as many.
    for name, count in {
        'spmm': 4,
        'spmm_unweighted': 4,
        'spmm_loops': 5,
        'spmm_parts': 4,
        'propagate': 10,
        'propagate_scaled': 10,
        'propagate_whole': 10,
        'propagate_parts': 8,
        'propagate_parts_scaled': 8,
        'sddmm': 4,
    }.items():
        assert report[f'{name}/{case}']['wide_loads'] >= count, name
