import json
import math
import time
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from benchmarks import info_nce, propagate, spmm
from benchmarks.clocks import GPUClock
from benchmarks.gpu.summary import kernel_lines
from benchmarks.graphs import load_graph
from benchmarks.kernels import Case, measure, relative_error
from benchmarks.registry import Record
from benchmarks.session import Options, Session, failures
from benchmarks.spmm_peers import PEERS, Peer
from benchmarks.timing import clone
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


def broken(a, x):
    raise RuntimeError('no such thing\nand more')


@pytest.mark.parametrize(
    ('kernel', 'reason'),
    [
        (lambda a, x: ops.spmm(a, x) * 1.01, 'error 1.0e-02'),
        (lambda a, x: ops.spmm(a, x) + math.inf, 'error inf'),
        (broken, 'RuntimeError: no such thing'),
    ],
)
def test_wrong_kernel_is_caught_and_not_timed(session, problem, kernel, reason):
    peer = Peer(lambda matrix, value: matrix.set_value(value), kernel)
    case, calls = problem().case('wrong', peer), []
    case.fn = lambda a, x, fn=case.fn: calls.append(1) or fn(a, x)
    (record,) = measure(session, 'spmm', [case])
    assert record.status == 'failed' and reason in record.reason
    assert 'and more' not in record.reason
    assert 'ms' not in record.metrics and len(calls) == 1


@pytest.mark.parametrize(
    ('values', 'status', 'reason'),
    [
        ({'extra': 1e15}, 'skipped', '1000000 GB'),
        ({'edges': 1_000_001}, 'skipped', 'is for up to 1e+06 edges'),
        ({'unavailable': 'needs x'}, 'not available', 'needs x'),
    ],
)
def test_what_cannot_be_measured_is_not_tried(
    session, problem, values, status, reason
):
    case = problem().case('peer', PEERS['peer-pyg'])
    vars(case).update(values)
    case.make = lambda: pytest.fail('should not be tried')
    (record,) = measure(session, 'spmm', [case])
    assert record.status == status and reason in record.reason
    assert not record.metrics and not list(failures([record]))


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
            fn=partial(time.sleep, seconds),
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


def test_records_of_a_gpu(session, problem, monkeypatch):
    gpu = FakeGPU(RuntimeError('not while capturing'))
    clock = GPUClock(gpu)
    monkeypatch.setattr('benchmarks.timing.clock_of', lambda device: clock)
    kernels = spmm.kernels(session.options.device)
    case = problem().case('naive', kernels['naive'])
    case.fn = lambda a, x, fn=case.fn: (gpu.call(id(x)), fn(a, x))[1]
    (record,) = measure(session, 'spmm', [case])
    m = record.metrics
    assert record.status == 'ok'
    note = 'no CUDA graph after RuntimeError: not while capturing'
    assert record.reason == note
    assert m['ms'] == pytest.approx(1e3 * gpu.cold)
    row = 8 * 4  # Of each edge: channels of four bytes.
    assert m['gathered_gb_per_s'] == pytest.approx(300 * row / m['ms'] / 1e6)
    assert m['ms_warm'] == pytest.approx(1e3 * gpu.warm)
    assert m['ms_eager'] == pytest.approx(1e3 * gpu.launch, rel=0.2)


def times(backend, *ms):
    labels = {'dtype': 'float32', 'direction': 'forward', 'backend': backend}
    return [
        Record('test', {'graph': n, **labels}, metrics={'ms': x})
        for n, x in enumerate(ms)
    ]


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


def test_triton_is_measured_on_a_gpu_alone(session):
    problem = info_nce.Problem(session, 50, 128, 'float32')

    def names():
        return {case.labels['backend'] for case in problem.cases('forward')}

    assert names() >= {'ours', 'naive'} and 'triton' not in names()
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


def test_reference_in_blocks_is_the_whole(problem, monkeypatch):
    p = problem('grad_x')
    whole = spmm.reference(p.matrix, *p.inputs(), 'grad_x')
    monkeypatch.setattr(spmm, 'BLOCK_SIZE', 8 * 7)
    parts = spmm.reference(p.matrix, *p.inputs(), 'grad_x')
    assert relative_error(parts, whole) < 1e-14


@pytest.mark.parametrize('direction', spmm.DIRECTIONS)
@pytest.mark.parametrize('name', PEERS)
def test_peers_are_right_on_copies_of_their_inputs(problem, name, direction):
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
