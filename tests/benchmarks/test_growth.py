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
        epoch = dict.fromkeys(['epoch_s', 'diffusion_s'], scale**2)
        return {**epoch, 'base_bytes': 1e8, 'peak_bytes': 1e8 + 1e9 * scale}

    monkeypatch.setattr(growth, 'run_child', run_child)


@pytest.mark.parametrize(
    ('limits', 'seconds', 'reason'),
    [
        ({'max_seconds': 60}, [1, 4, 16], 'about 64 s'),
        ({'max_seconds': 1e6, 'memory': 9e9}, [1, 4, 16, 64], 'GB'),
    ],
)
def test_stops_before_a_limit(session, fake_child, limits, seconds, reason):
    *done, last = growth.grow(session(**limits), 'fp32')
    assert [r.metrics['epoch_s'] for r in done] == seconds
    assert last.status == 'skipped' and reason in last.reason
    assert done[-1].metrics['us_per_edge_ratio'] == 2 ** (len(done) - 1)
    assert done[-1].metrics['bytes_per_edge_ratio'] == 1


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
