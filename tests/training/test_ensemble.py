import json

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate
from diffmm_geo.training import (
    DenoiserConfig,
    Ensemble,
    EnsembleConfig,
    ItemGraphConfig,
    save_ensemble,
)
from diffmm_geo.training.ensemble import USER_EXPONENTS
from tests.tasks.task_protocol import OBSERVED


def make(data, modalities=None, **kwargs):
    short = {'num_epochs': 3, 'batch_size': 16, 'k': 3}
    kwargs = {
        'denoiser': DenoiserConfig(hidden_channels=8, **short),
        'graph': ItemGraphConfig(embedding_dim=8, num_neighbors=3, **short),
        'k': 3,
        **kwargs,
    }
    return Ensemble(data, EnsembleConfig(**kwargs), modalities)


def test_history_and_metrics(planted):
    ensemble, seen = make(planted()), []
    scorer = ensemble.fit(callback=seen.append)
    names = [record['name'] for record in ensemble.history]
    assert (
        names
        == [*ensemble.scorers, 'ensemble']
        == [
            *(f'popularity:{a}' for a in USER_EXPONENTS),
            'features:image',
            'features:text',
            *('walk', 'ease', 'denoiser', 'graph', 'ensemble'),
        ]
    )
    assert seen == ensemble.history
    *_, last = [r['val']['recall@3'] for r in ensemble.history]
    held_out = planted()[OBSERVED]
    for split in ('val', 'test'):
        assert ensemble.evaluate(split) == evaluate(
            scorer,
            held_out[f'{split}_edge_label_index'],
            ensemble.edge_index,
            3,
        )
    assert last == ensemble.evaluate('val')['recall@3'] > 0
    excluded = scorer.recommend(None, 3, ensemble.edge_index)
    assert excluded.size() == (ensemble.task.num_users, 3)


def test_what_retrieves_candidates(planted):
    ensemble = make(planted(), members=('popularity', 'walk', 'ease'))
    scorer = ensemble.fit()
    assert scorer.retriever.weights == {'walk': 1.0, 'ease': 1.0}
    assert list(scorer.ranker.weights) == list(ensemble.scorers)
    assert scorer.ranker.weights == ensemble.weights
    # Others do only if they are the only ones.
    ensemble = make(planted(), members=('popularity',), num_candidates=5)
    scorer = ensemble.fit()
    assert len(scorer.retriever.weights) == len(USER_EXPONENTS)
    assert scorer.num_candidates == 5


def test_same_seed_gives_the_same_scores(planted):
    user = torch.arange(4)
    first = make(planted()).fit()(user)
    assert_close(make(planted()).fit()(user), first, rtol=0, atol=0)


def test_scale_of_features_does_not_matter(planted):
    data = planted()
    members = 'features', 'walk', 'graph'
    expected = make(data, members=members).fit()(torch.arange(4))
    data['item'].x_text = 1000.0 * data['item'].x_text + 80.0
    out = make(data, members=members).fit()(torch.arange(4))
    assert_close(out, expected, rtol=1e-3, atol=1e-3)


def test_ease_is_left_out_of_many_items(planted):
    ensemble = make(planted(), members=('walk', 'ease'), max_ease_items=3)
    ensemble.fit()
    assert list(ensemble.scorers) == ['walk']


def test_files(planted, tmp_path, monkeypatch):
    ensemble = make(planted(), members=('walk', 'denoiser'))
    with pytest.raises(ValueError, match='fit'):
        save_ensemble(ensemble, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    ensemble.fit()
    monkeypatch.setenv('HOME', str(tmp_path))
    save_ensemble(ensemble, '~/run')
    content = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert content['best_val']['test'] == ensemble.evaluate('test')
    assert content['weights'] == ensemble.weights
    state = torch.load(tmp_path / 'run' / 'model.pt', weights_only=True)
    assert list(state) == ['denoiser']


@pytest.mark.parametrize(
    'name, value',
    [
        ('members', ('walks',)),
        ('members', ()),
        ('ease_reg_factor', 0.0),
        ('denoiser', ItemGraphConfig()),
        ('num_candidates', 0),
        ('k', 0),
    ],
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=name):
        EnsembleConfig(**{name: value})
