import json
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.run import main, parse_args
from benchmarks.session import Options, Session
from diffmm_geo.tasks import neighbor_batches
from diffmm_geo.training import DiffMMConfig

GRAPH = 'power-60x50x400'


@pytest.fixture(params=['full', 'neighbor'])
def session(request, monkeypatch, tmp_path):
    if request.param == 'neighbor':
        pytest.importorskip('torch_sparse')
    monkeypatch.setattr('benchmarks.device.ceilings', lambda device: {})
    return Session(
        Options(
            graphs=(GRAPH,),
            modes=(request.param,),
            threads=1,
            fraction=0.1,
            scratch=tmp_path / 'new' / 'scratch',
        )
    )


def test_phases_of_a_small_graph(session, monkeypatch):
    monkeypatch.setattr(scale, 'LONG', 0.0)
    found = {r.labels['phase']: r for r in scale.run(session)}
    assert list(found) == ['prepare', *scale.PHASES, 'epoch']
    assert all(r.status == 'ok' for r in found.values())
    for phase in scale.PHASES:
        m = found[phase].metrics
        # Untimed parts are reported.
        assert 0.1 <= m['fraction'] < 0.2
        assert m['seconds'] > m['timed_s'] > 0 and m['cpu_s'] > 0
        assert m['us_per_edge'] == pytest.approx(1e6 * m['seconds'] / 400)
        assert m['peak_bytes'] > 1e8
    total = sum(found[p].metrics['seconds'] for p in scale.PHASES)
    assert found['epoch'].metrics['seconds'] == pytest.approx(total)


def test_what_is_not_long_is_timed_whole(session):
    found = {r.labels['phase']: r for r in scale.run(session)}
    for phase in scale.PHASES:
        m = found[phase].metrics
        assert m['fraction'] == 1
        assert m['seconds'] == pytest.approx(m['timed_s'])


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


def test_without_a_sampler_is_no_failure(monkeypatch, tmp_path, capsys):
    typing = neighbor_batches.torch_geometric.typing
    monkeypatch.setattr(typing, 'WITH_TORCH_SPARSE', False)
    monkeypatch.setattr(typing, 'WITH_PYG_LIB', False)
    options = ['--graphs', GRAPH, '--output', str(tmp_path)]
    assert main(['scale', *options]) == 0
    (record,) = json.loads((tmp_path / 'results.json').read_text())['records']
    assert record['status'] == 'not available' and record['ours']
    table = (tmp_path / 'scale.txt').read_text()
    assert 'not available: batching' in table
    assert 'not available: scale: batching' in capsys.readouterr().err


@pytest.mark.parametrize('mode', ['full', 'neighbor'])
def test_settings(mode):
    settings = scale.settings(mode, 64, 10**6, 10**6, 5 * 10**7)
    assert DiffMMConfig(**settings).batching == mode
    assert settings['diffusion_batch_size'] == 16666


def test_fraction_is_a_tenth_at_least(capsys):
    with pytest.raises(SystemExit):
        parse_args(['scale', '--fraction', '0.05'])
    assert '--fraction' in capsys.readouterr().err
