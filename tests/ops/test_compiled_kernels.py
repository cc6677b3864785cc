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
        # Room for five blocks of 128 threads on a multiprocessor; four, where
        # rows are not whole vectors, and addresses are many.
        assert kernel['reg'] <= (128 if '/50' in name else 96), name


def test_nothing_depends_on_the_order_of_threads(report):
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
def test_rows_are_read_16_bytes_a_lane(report, case):
    # Four entries in a round, at least one row of a lane each; and twice
    # that, with the self-loops, where both sides are in the kernel.
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
        'sampled_product': 4,
    }.items():
        assert report[f'{name}/{case}']['wide_loads'] >= count, name
