from dataclasses import replace

import pytest
from torch.testing import assert_close

from diffmm_geo.training import DiffMMConfig, DiffMMTrainer, LightGCNConfig
from examples.experiments.run_store import OBSERVED, RunStore

CONFIG = DiffMMConfig(
    num_epochs=4, batch_size=32, embedding_dim=8, hidden_channels=8, k=3
)


@pytest.fixture
def store(planted, tmp_path):
    def make(data=None, root=tmp_path, stop_at=None):
        lines = []

        def show(line):
            lines.append(line)
            if stop_at is not None and f'epoch {stop_at},' in line:
                raise KeyboardInterrupt

        store = RunStore(root, 'planted', data or planted(), show=show)
        store.lines = lines
        return store

    return make


def epochs(store):
    return [int(x.split('epoch ')[1].split(',')[0]) for x in store.lines[:-1]]


def test_trains_once(store, planted):
    first = store()
    run = first.run('DiffMM', CONFIG, 'full')
    assert epochs(first) == [1, 2, 3, 4]
    names = {path.name for path in run.folder.iterdir()}
    assert names == {'embeddings.npz', 'generated.npz', 'lock', 'result.json'}
    second = store()
    again = second.run('DiffMM', CONFIG, 'full')
    assert again.result == run.result and again.folder == run.folder
    assert second.lines == first.lines[-1:]
    summary = run.summary()
    assert summary['config']['hidden_channels'] == 8
    assert summary['num_epochs_trained'] == 4

    trainer = DiffMMTrainer(planted(), CONFIG)
    trainer.fit()
    assert_close(run.embeddings, trainer.embeddings())
    for m in ('image', 'text'):
        expected = trainer.edge_index_dict['user', f'denoised_{m}', 'item']
        assert run.generated[m].equal(expected)
    test = planted()[OBSERVED].test_edge_label_index
    metrics = run.evaluate_on(planted(), test)
    assert metrics == pytest.approx(trainer.best_val['test'])
    assert metrics == pytest.approx(run.metrics())
    best = max(r['test']['recall@3'] for r in trainer.history)
    assert run.metrics('best_test')['recall@3'] == best


def test_goes_on_where_it_stopped(store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        store(stop_at=2).run('DiffMM', CONFIG, 'full')
    second = store()
    run = second.run('DiffMM', CONFIG, 'full')
    assert epochs(second) == [3, 4]
    whole = store(root=tmp_path / 'other').run('DiffMM', CONFIG, 'full')
    for one, other in zip(run.result['history'], whole.result['history']):
        for key in ('epoch', 'loss', 'val', 'test'):
            assert one[key] == other[key]
    for one, other in zip(run.embeddings, whole.embeddings):
        assert one.equal(other)


def test_another_run_is_another_folder(store, planted):
    base = store()
    other_edges = planted()
    other_edges[OBSERVED].edge_index = other_edges[OBSERVED].edge_index[:, 1:]
    other_features = planted()
    other_features['item'].x_text = other_features['item'].x_text + 1
    baseline = LightGCNConfig()
    folders = [
        base.folder('DiffMM', CONFIG),
        base.folder('DiffMM', replace(CONFIG, seed=1)),
        base.folder('LightGCN', baseline),
        store(other_edges).folder('DiffMM', CONFIG),
        store(other_features).folder('DiffMM', CONFIG),
        store(planted(modalities=['image'])).folder('DiffMM', CONFIG),
        store(other_edges).folder('LightGCN', baseline),
    ]
    assert len(set(folders)) == len(folders)
    # LightGCN does not use features.
    assert store(other_features).folder('LightGCN', baseline) == folders[2]
    assert store().folder('DiffMM', replace(CONFIG)) == folders[0]


def test_a_default_has_changed(store):
    run = store().run('DiffMM', CONFIG, 'full')
    path = run.folder / 'result.json'
    text = path.read_text()
    assert '"ssl_weight": 0.01' in text
    path.write_text(text.replace('"ssl_weight": 0.01', '"ssl_weight": 0.02'))
    other = store()
    other.run('DiffMM', CONFIG, 'full')
    assert epochs(other) == [1, 2, 3, 4]


def test_nothing_is_left_of_a_wrong_setting(store, tmp_path):
    with pytest.raises(ValueError, match="'k'"):
        store().run('DiffMM', replace(CONFIG, k=25), 'full')
    assert list(tmp_path.iterdir()) == []
