import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Instructions of tensor cores, by architecture.
PRODUCTS = {80: 'mma.sync', 90: 'wgmma.mma_async', 100: 'tcgen05.mma'}
LOSS = ('sum_exp', 'finish', 'grad')


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    r"""The resources of each kernel. They are compiled in their own process,
    since kernels that are interpreted do not compile.
    """
    triton = pytest.importorskip('triton')
    tools = Path(triton.__file__).parent / 'backends/nvidia/bin'
    if not all((tools / x).exists() for x in ('ptxas', 'cuobjdump')):
        pytest.skip('Triton comes without ptxas or cuobjdump')
    env = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    env['TRITON_CACHE_DIR'] = str(tmp_path_factory.mktemp('triton'))
    folder = tmp_path_factory.mktemp('report')
    command = ['-m', 'benchmarks.gpu.compile_kernels', '--quick', '--json']
    out = subprocess.run(
        [sys.executable, *command, '--output', folder],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    paths = [folder / f'sm_{arch}.json' for arch in PRODUCTS]
    return [r for path in paths for r in json.loads(path.read_text())]


def test_every_kernel_is_compiled(report):
    kernels = {'spmm_kernel', 'spmm_parts_kernel', 'sddmm_kernel', *LOSS}
    kernels |= {'propagate_kernel', 'propagate_parts_kernel'}
    for arch in PRODUCTS:
        assert {r['kernel'] for r in report if r['arch'] == arch} == kernels


def test_no_spills_and_no_atomics(report):
    for r in report:
        assert r['atomics'] == 0, r
        assert r['spilled'] == 0 or r['arch'] != 90, r


def test_registers_of_sparse_kernels_suffice(report):
    for r in report:
        if r['kernel'] not in LOSS:
            # A multiprocessor holds five blocks of 128 threads, or four for
            # unaligned rows, which need more addresses.
            limit = 128 if r['channels'] in (17, 50) else 96
            assert r['registers'] <= limit, r


def test_lanes_load_16_bytes(report):
    # Each round loads four entries, plus self-loops. Kernels with both sides
    # load twice as many.
    counts = dict(spmm_kernel=4, spmm_parts_kernel=4, sddmm_kernel=4)
    counts |= dict(propagate_kernel=10, propagate_parts_kernel=8)
    for r in report:
        if r['channels'] in (20, 64, 192) and r['kernel'] in counts:
            loops = 'spmm' in r['kernel'] and '-loop' not in r['variant']
            assert r['wide_loads'] >= counts[r['kernel']] + loops, r


def test_products_run_on_tensor_cores(report):
    found = set()
    for r in report:
        if r['kernel'] not in ('sum_exp', 'grad') or r['dtype'] == 'fp64':
            continue
        assert r['shared'] < 99 * 1024, r
        is_tf32 = 'tf32' in r['variant']
        if r['dtype'] == 'fp32' and not is_tf32:
            continue
        found.add((r['arch'], r['dtype'], is_tf32))
        few_rows = r['channels'] > (128 if is_tf32 else 256)
        name = 'mma.sync' if few_rows else PRODUCTS[r['arch']]
        assert name in r['products'].split(), r
    assert {
        (90, 'fp32', True),
        *((arch, 'bf16', False) for arch in PRODUCTS),
    } <= (found)
