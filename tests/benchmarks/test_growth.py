import pytest

from benchmarks import growth, training
from benchmarks.epoch import measure_epoch
from benchmarks.session import Options, Session


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr('benchmarks.device.ceilings', lambda device: {})

    def make(memory=20e9, **kwargs):
        session = Session(Options(**kwargs))
        session.memory = memory
        return session

    return make


@pytest.fixture
def fake_child(monkeypatch):
    """Epochs with seconds proportional to the square of the edges."""

    def run_child(module, spec, memory, seconds, huge_pages):
        users = int(spec['graph'].split('-')[1].split('x')[0])
        steps = users * 10 // spec['config']['batch_size']
        assert steps == growth.SETTINGS['steps']
        scale = users / 10_000
        return {
            'epoch_s': scale**2,
            'diffusion_s': scale**2,
            'base_bytes': 1e8,
            'peak_bytes': 1e8 + 1e9 * scale,
        }

    monkeypatch.setattr(growth, 'run_child', run_child)


def test_stops_before_an_epoch_takes_too_long(session, fake_child):
    *done, last = growth.grow(session(max_seconds=60), 'fp32')
    assert [r.metrics['epoch_s'] for r in done] == [1, 4, 16]
    assert last.status == 'skipped' and 'about 64 s' in last.reason
    assert done[-1].metrics['us_per_edge_ratio'] == 4
    assert done[-1].metrics['bytes_per_edge_ratio'] == 1


def test_stops_before_memory_is_full(session, fake_child):
    *done, last = growth.grow(session(max_seconds=1e6, memory=9e9), 'fp32')
    peaks = [r.metrics['peak_bytes'] for r in done]
    assert peaks == [1.1e9, 2.1e9, 4.1e9, 8.1e9]
    assert last.status == 'skipped' and 'GB' in last.reason


def test_mode_with_unknown_settings_is_refused(session, monkeypatch):
    monkeypatch.setitem(training.MODES, 'warp', {'warp_factor': 9})
    record = measure_epoch(session(), 'power-60x40x300', 'warp')
    assert record.status == 'skipped'
    assert record.reason == 'DiffMMConfig has no warp_factor'
    record = measure_epoch(session(modes=('warp',)), 'any', 'warp')
    assert record.status == 'failed'
    (record,) = growth.grow(session(modes=('warp',)), 'warp')
    assert record.status == 'failed'


def test_failure_of_a_size_ends_growth(session, monkeypatch):
    def run_child(*args, **kwargs):
        raise RuntimeError('ended with status -9')

    monkeypatch.setattr(growth, 'run_child', run_child)
    (record,) = growth.grow(session(), 'fp32')
    assert record.status == 'failed'
