import json
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from benchmarks import info_nce, plots, propagate, report, spmm
from benchmarks.clocks import GPUClock
from benchmarks.gpu.summary import kernel_lines
from benchmarks.graphs import load_graph
from benchmarks.kernels import TOLERANCE, Case, measure, relative_error
from benchmarks.registry import Record
from benchmarks.session import Options, Session, failures, unavailable
from benchmarks.spmm_peers import PEERS, Peer
from diffmm_geo import ops
from tests.benchmarks.fake_gpu import FakeGPU


@pytest.fixture
def session(monkeypatch, tmp_path):
    monkeypatch.setattr(
        'benchmarks.device.ceilings',
        lambda device: {'copy': 1e10, 'matmul_float32': 1e11},
    )
    return Session(Options(seconds=1e-3, output=tmp_path))


@pytest.fixture
def problem(session):
    graph = load_graph('power-60x40x300', session.options.root)
    matrix = spmm.normalized(graph, session.options.device)

    def make(direction='forward', dtype='float32'):
        return spmm.Problem(session, graph.name, matrix, 8, dtype, direction)

    return make


def test_wrong_kernel_is_caught_and_not_timed(session, problem):
    def wrong(matrix, x):
        return ops.spmm(matrix, x) * 1.01

    kernel = Peer(lambda matrix, value: matrix.set_value(value), wrong)
    calls = []
    case = problem().case('wrong', kernel)
    case.fn = lambda a, x, fn=case.fn: calls.append(1) or fn(a, x)
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'failed' and 'error 1.0e-02' in record.reason
    assert 'ms' not in record.metrics and len(calls) == 1


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_output_that_is_not_finite_is_wrong(session, problem, bad):
    def kernel(a, x):
        out = spmm.reference(*a, x, x, 'forward')[0].to(x.dtype)
        out[0, 0] = bad
        return out

    peer = Peer(lambda *a: a, kernel)
    case = problem().case('bad', peer)
    case.fn = lambda a, x: (torch.full((60, 8), bad),)
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'failed' and 'ms' not in record.metrics


def test_kernel_that_raises_is_reported(session, problem):
    def broken(a, x):
        raise RuntimeError('no such thing\nand more')

    case = problem().case('broken', Peer(lambda *a: a, broken))
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'failed'
    assert record.reason == 'RuntimeError: no such thing'


def test_kernel_that_would_not_fit_is_skipped(session, problem):
    case = problem().case('large', PEERS['peer-pyg'])
    case.extra = 1e15
    case.make = lambda: pytest.fail('should not be tried')
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'skipped' and '1000000 GB' in record.reason


def test_kernel_that_is_not_installed_is_not_tried(session, problem):
    peer = Peer(lambda *a: a, lambda *a: a, unavailable='needs a package')
    case = problem().case('absent', peer)
    case.make = lambda: pytest.fail('should not be tried')
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'not available' and not record.metrics
    assert unavailable([record, record]) == ['spmm: needs a package']
    assert not list(failures([record]))


def test_backends_that_are_not_installed_are_named(session, monkeypatch):
    monkeypatch.setattr('torch_geometric.typing.WITH_TORCH_SPARSE', False)
    cpu = session.options.device
    reason = "'torch_sparse' is not installed for cpu"
    for kernels in (spmm.kernels(cpu), propagate.kernels(cpu)):
        assert kernels['torch_sparse'].unavailable == reason
        assert not kernels['naive'].unavailable
        assert 'triton' not in kernels


def test_speedup_is_over_ours(session):
    def case(backend, seconds):
        return Case(
            labels={'backend': backend, 'dtype': 'float32'},
            make=lambda: (),
            fn=partial(_sleep, seconds),
            check=lambda out: 0.0,
            tolerance=0.0,
            bytes=1e9,
            flops=1e6,
            edges=100,
        )

    cases = [case('ours', 0.02), case('naive', 0.005)]
    cases += [case('peer-slow', 0.2), case('peer-slower', 0.4)]
    cases[0].ours = cases[1].ours = True
    records = list(measure(session, 'test', cases))
    ours, _, peer, _ = records
    assert ours.metrics['speedup'] == 1
    assert 4 < peer.metrics['speedup'] < 20
    assert ours.metrics['vs_best_peer'] == peer.metrics['speedup']
    assert all('vs_best_peer' not in r.metrics for r in records[1:])
    m = peer.metrics
    assert m['gb_per_s'] == pytest.approx(1e3 / m['ms'])
    assert m['share_of_copy'] == pytest.approx(m['gb_per_s'] / 10)
    assert m['edges_per_s'] == pytest.approx(1e5 / m['ms'])


def test_summary_is_over_problems():
    ours = [
        Record('test', {'backend': 'ours'}, metrics={'ms': 1, **m})
        for m in ({'vs_best_peer': 4.0}, {'vs_best_peer': 0.25}, {})
    ]
    *_, last = report.table(ours).splitlines()
    assert last == (
        'ours vs best peer, 2 problems: geometric mean 1.00x, minimum 0.25x'
    )
    assert 'vs best peer, ' not in report.table(ours[2:])


def test_kernel_is_skipped_above_its_edges(session, problem):
    case = problem().case('slow', PEERS['peer-pyg'])
    case.make = lambda: pytest.fail('should not be tried')
    case.edges = 1_000_001
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'skipped'
    assert record.reason == 'is for up to 1e+06 edges'


def test_gathered_bytes_are_a_row_of_each_edge(session, problem):
    case = problem().case(
        'naive', spmm.kernels(session.options.device)['naive']
    )
    (record,) = measure(session, 'spmm', [case])
    m = record.metrics
    row = 8 * 4  # Channels of four bytes.
    assert m['gathered_gb_per_s'] == pytest.approx(300 * row / m['ms'] / 1e6)
    assert m['ms_warm'] > 0


def test_records_of_a_gpu(session, problem, monkeypatch):
    gpu = FakeGPU(RuntimeError('not while capturing'))
    clock = GPUClock(gpu)
    monkeypatch.setattr('benchmarks.timing.clock_of', lambda device: clock)
    case = problem().case(
        'naive', spmm.kernels(session.options.device)['naive']
    )
    case.fn = lambda a, x, fn=case.fn: (gpu.call(id(x)), fn(a, x))[1]
    (record,) = measure(session, 'spmm', [case])
    m = record.metrics
    assert record.status == 'ok'
    note = 'no CUDA graph after RuntimeError: not while capturing'
    assert record.reason == note
    assert m['ms'] == pytest.approx(1e3 * gpu.cold)
    assert m['ms_warm'] == pytest.approx(1e3 * gpu.warm)
    assert m['ms_eager'] == pytest.approx(1e3 * gpu.launch, rel=0.2)


def test_a_note_on_times_is_in_the_table():
    record = Record('test', {'backend': 'ours'}, metrics={'ms': 1})
    record.reason = 'no CUDA graph'
    assert 'ok: no CUDA graph' in report.table([record])


def times(backend, *ms, direction='forward'):
    return [
        Record(
            'test',
            {
                'graph': n,
                'dtype': 'float32',
                'direction': direction,
                'backend': backend,
            },
            metrics={'ms': x},
        )
        for n, x in enumerate(ms)
    ]


def test_last_line_names_the_fastest_by_direction():
    records = times('ours', 2, 8) + times('peer', 1, 8) + times('partial', 1)
    records += times('ours', 3, direction='backward')
    records += times('peer', 4, direction='backward')
    records[0].metrics['speedup'] = 1.0
    assert report.table(records).splitlines()[-1] == (
        'fastest: float32 forward peer (1.41x ours); float32 backward ours'
    )


def test_summary_of_a_gpu_compares_every_triton_kernel(tmp_path):
    records = times('ours', 8) + times('triton', 4) + times('naive', 16)
    records += times('triton-tf32x3', 2)
    for record in records:
        record.metrics['share_of_copy'] = 0.5
    text = json.dumps({'records': [asdict(record) for record in records]})
    (tmp_path / 'kernels.json').write_text(text)
    lines = '\n'.join(kernel_lines(tmp_path))
    for name, ratio in (('ours', 2), ('triton', 4), ('triton-tf32x3', 8)):
        assert f'test: {name} against' in lines
        assert f' {ratio}.00x' in lines
    assert 'fastest: float32 forward triton-tf32x3 (4.00x ours)' in lines


def test_what_beats_ours_anywhere_is_labelled():
    records = times('ours', 2, 2) + times('once', 1, 9) + times('slow', 3, 3)
    records += times('equal', 1.97, 9)
    for name in ('a', 'b', 'c'):
        records += times(f'peer-{name}', 3, 4)
    styles = plots._styles(records)
    named = [name for name, style in styles.items() if 'label' in style]
    assert named == ['ours', 'once', 'peer-a', 'peer-b', 'peer-c']
    colors = [styles[name]['color'] for name in named]
    assert len(set(colors)) == 5 and styles.keys() >= {'slow', 'equal'}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', info_nce.KERNELS)
def test_losses_are_right(session, name, dtype):
    kernel = info_nce.KERNELS[name]
    if kernel.optional or dtype not in kernel.dtypes or kernel.unavailable:
        pytest.skip('is not measured')
    problem = info_nce.Problem(session, 50, 64, dtype)
    loss, *grads = info_nce.loss_and_grad(kernel.loss, *problem.make(True))
    tolerance = TOLERANCE[dtype]
    assert problem.check(False, (loss,)) <= tolerance
    assert problem.check(True, (loss, *grads)) <= tolerance


def test_triton_is_measured_on_a_gpu_alone(session):
    problem = info_nce.Problem(session, 50, 128, 'float32')

    def names():
        return {case.labels['backend'] for case in problem.cases('forward')}

    assert names() == {
        'ours',
        'naive',
        'peer-linear-ce',
        'peer-linear-ce-chunked',
    }
    session.options = replace(session.options, device=torch.device('cuda'))
    # tf32x3 takes up to 64 channels.
    assert names() >= {'ours', 'triton'} and 'triton-tf32x3' not in names()


def test_half_views_are_multiplied_in_half(session):
    problem = info_nce.Problem(session, 50, 64, 'bfloat16')
    seen = []

    def loss(anchor, candidate, index, temperature):
        seen.append(torch.is_autocast_enabled('cpu'))
        return (anchor[index] * candidate[index]).sum()

    info_nce.only_loss(loss, *problem.make(False))
    info_nce.loss_and_grad(loss, *problem.make(True))
    assert seen == [True, True]


def _sleep(seconds):
    import time

    time.sleep(seconds)


@pytest.mark.parametrize('direction', spmm.DIRECTIONS)
def test_reference_is_the_naive_backend(problem, direction):
    p = problem(direction, 'float64')
    kernel = Peer(
        lambda matrix, value: matrix.set_value(value),
        partial(ops.spmm, backend='naive'),
    )
    case = p.case('naive', kernel)
    assert case.check(case.fn(*case.make())) < 1e-14


def test_reference_in_blocks_is_the_whole(problem, monkeypatch):
    p = problem('grad_x')
    whole = spmm.reference(p.matrix, *p.inputs(), 'grad_x')
    monkeypatch.setattr(spmm, 'BLOCK_SIZE', 8 * 7)
    parts = spmm.reference(p.matrix, *p.inputs(), 'grad_x')
    assert relative_error(parts, whole) < 1e-14


@pytest.mark.parametrize('direction', spmm.DIRECTIONS)
@pytest.mark.parametrize('name', PEERS)
def test_peers_are_right_on_copies_of_their_inputs(problem, name, direction):
    from benchmarks.timing import clone

    peer = PEERS[name]
    if peer.optional or direction not in peer.directions:
        pytest.skip('is not measured')
    if peer.unavailable:
        pytest.skip(peer.unavailable)
    case = problem(direction).case(name, peer)
    inputs = case.make()
    assert case.check(case.fn(*inputs)) < 1e-6
    # After a call, inputs hold their caches.
    assert case.check(case.fn(*clone(inputs))) < 1e-6


@pytest.mark.parametrize('name', propagate.kernels(torch.device('cpu')))
def test_steps_are_right_on_copies_of_their_inputs(session, name):
    from benchmarks.timing import clone

    if reason := propagate.kernels(session.options.device)[name].unavailable:
        pytest.skip(reason)
    graph = load_graph('power-60x40x300', session.options.root)
    problem = propagate.Problem(session, graph)
    problem.set(8, 'float32')
    for direction in propagate.DIRECTIONS:
        for case in problem.cases(direction):
            if case.labels['backend'] == name:
                inputs = case.make()
                assert case.check(case.fn(*inputs)) < 1e-6
                assert case.check(case.fn(*clone(inputs))) < 1e-6
