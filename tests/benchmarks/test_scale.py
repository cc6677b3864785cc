import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.session import Options, Session
from diffmm_geo.training import DiffMMConfig

GRAPH = 'power-60x50x400'


@pytest.fixture
def session(monkeypatch, tmp_path):
    monkeypatch.setattr('benchmarks.device.ceilings', lambda device: {})
    options = Options(graphs=(GRAPH,), threads=1, fraction=0.1)
    return Session(replace(options, scratch=tmp_path / 'new' / 'scratch'))


# What is not long is timed whole. Untimed parts are reported.
@pytest.mark.parametrize('is_long', [True, False])
def test_phases_of_a_small_graph(session, monkeypatch, is_long):
    if is_long:
        monkeypatch.setattr(scale, 'LONG', 0.0)
    found = {r.labels['phase']: r for r in scale.run(session)}
    assert list(found) == ['prepare', *scale.PHASES, 'epoch']
    assert all(r.status == 'ok' for r in found.values())
    for phase in scale.PHASES:
        m = found[phase].metrics
        assert 0.1 <= m['fraction'] < 0.2 if is_long else m['fraction'] == 1
        assert m['timed_s'] > 0
        part = m['timed_s'] / m['seconds']
        assert part < 1 if is_long else part == pytest.approx(1)
        assert m['us_per_edge'] == pytest.approx(1e6 * m['seconds'] / 400)
        assert m['cpu_s'] > 0 and m['peak_bytes'] > 1e8
    total = sum(found[p].metrics['seconds'] for p in scale.PHASES)
    assert found['epoch'].metrics['seconds'] == pytest.approx(total)


def test_a_phase_that_fails_leaves_those_before(session, monkeypatch):
    def run_child(module, spec, memory, seconds):
        told = {f'prepare_{key}': 2 for key in scale.KEYS}
        Path(spec['results']).write_text(
            '\n'.join(json.dumps(x) for x in ({'base_bytes': 1}, told))
        )
        raise scale.LimitError('held more than 12.0 GB')

    monkeypatch.setattr(scale, 'run_child', run_child)
    first, last = scale.run(session)
    assert first.labels['phase'] == 'prepare' and first.status == 'ok'
    assert last.labels['phase'] == 'epoch' and last.status == 'failed'
    assert '12.0 GB' in last.reason


def test_settings():
    settings = scale.settings(64, 10**6, 10**6, 5 * 10**7)
    config = DiffMMConfig(**settings)
    assert (config.batch_size, config.diffusion_batch_size) == (10**6, 16666)
