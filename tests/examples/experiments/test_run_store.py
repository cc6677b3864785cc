from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import DiffMMTrainer, LightGCNConfig
from examples.experiments.generators import GeneratorConfig
from examples.experiments.run_store import OBSERVED, RunStore

CONFIG = GeneratorConfig(
    num_epochs=4, batch_size=32, embedding_dim=8, hidden_channels=8, k=3
)
KEYS = ('epoch', 'loss', 'val', 'test')


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
    trainer = DiffMMTrainer(planted(), CONFIG)
    trainer.fit()
    assert_close(run.embeddings, trainer.embeddings())
    for m in ('image', 'text'):
        expected = trainer.edge_index_dict['user', f'denoised_{m}', 'item']
        assert run.generated[m].equal(expected)
    test = planted()[OBSERVED].test_edge_label_index
    metrics = run.evaluate_on(planted(), test)
    assert metrics == pytest.approx(trainer.best_val['test'])
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
        assert [one[k] for k in KEYS] == [other[k] for k in KEYS]
    assert all(map(torch.equal, run.embeddings, whole.embeddings))


def test_another_run_is_another_folder(store, planted):
    def folders(change=lambda data: None, **kwargs):
        data = planted(**kwargs)
        change(data)
        configs = ('DiffMM', CONFIG), ('LightGCN', LightGCNConfig())
        return [store(data).folder(*x) for x in configs]

    def drop_edge(data):
        data[OBSERVED].edge_index = data[OBSERVED].edge_index[:, 1:]

    def change_feature(data):
        data['item'].x_text += 1

    base = folders()
    found = [*base, *folders(drop_edge), folders(change_feature)[0]]
    found.append(folders(modalities=['image'])[0])
    found.append(store().folder('DiffMM', replace(CONFIG, seed=1)))
    assert len(set(found)) == len(found)
    # LightGCN does not use features.
    assert folders(change_feature)[1] == base[1] and folders() == base


def test_a_default_has_changed(store):
    run = store().run('DiffMM', CONFIG, 'full')
    path = run.folder / 'result.json'
    text = path.read_text()
    assert '"ssl_weight": 0.01' in text
    path.write_text(text.replace('"ssl_weight": 0.01', '"ssl_weight": 0.02'))
    other = store()
    other.run('DiffMM', CONFIG, 'full')
    assert epochs(other) == [1, 2, 3, 4]
