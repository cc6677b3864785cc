import json

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate_scorer
from diffmm_geo.training import (
    DenoiserConfig,
    Ensemble,
    EnsembleConfig,
    ItemGraphConfig,
    save_ensemble,
)
from diffmm_geo.training.ensemble import MEMBERS
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


def test_is_at_least_as_good_as_each_member_on_validation(planted):
    ensemble, seen = make(planted()), []
    scorer = ensemble.fit(callback=seen.append)
    names = [record['name'] for record in ensemble.history]
    assert names == [*MEMBERS, 'ensemble'] and seen == ensemble.history
    *members, last = [r['val']['recall@3'] for r in ensemble.history]
    assert last >= max(members) > 0
    held_out = planted()[OBSERVED].test_edge_label_index
    assert ensemble.evaluate('test') == evaluate_scorer(
        scorer, held_out, ensemble.edge_index, 3
    )
    excluded = scorer.recommend(None, 3, ensemble.edge_index)
    assert excluded.size() == (ensemble.task.num_users, 3)


def test_same_seed_gives_the_same_scores(planted):
    user = torch.arange(4)
    first = make(planted()).fit()(user)
    assert_close(make(planted()).fit()(user), first, rtol=0, atol=0)


def test_scale_of_features_does_not_matter(planted):
    data = planted()
    expected = make(data, members=('walk', 'graph')).fit()(torch.arange(4))
    data['item'].x_text = 1000.0 * data['item'].x_text + 80.0
    out = make(data, members=('walk', 'graph')).fit()(torch.arange(4))
    assert_close(out, expected, rtol=1e-3, atol=1e-3)


def test_ease_is_left_out_of_many_items(planted):
    ensemble = make(planted(), members=('cosine', 'ease'), max_ease_items=3)
    assert list(ensemble.fit().scorers) == ['cosine']


def test_files(planted, tmp_path):
    ensemble = make(planted(), members=('walk', 'denoiser'))
    with pytest.raises(ValueError, match='fit'):
        save_ensemble(ensemble, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    ensemble.fit()
    save_ensemble(ensemble, tmp_path / 'run')
    content = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert content['best_val']['test'] == ensemble.evaluate('test')
    assert content['weights'] == ensemble.scorer.weights
    state = torch.load(tmp_path / 'run' / 'model.pt', weights_only=True)
    assert list(state) == ['denoiser']


@pytest.mark.parametrize(
    'name, value',
    [
        ('members', ('walks',)),
        ('members', ()),
        ('ease_reg_factor', 0.0),
        ('denoiser', ItemGraphConfig()),
        ('k', 0),
    ],
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=name):
        EnsembleConfig(**{name: value})
