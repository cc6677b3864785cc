r"""What a trainer does with any task."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
    Trainer,
    save_run,
)
from diffmm_geo.training import trainer as trainer_module
from diffmm_geo.training.checkpoint import read_checkpoint
from diffmm_geo.utils.finite import NonFiniteLossError
from tests.tasks.task_protocol import OBSERVED, losses_of, weights_of

CONFIGS = {LightGCNTrainer: LightGCNConfig, DiffMMTrainer: DiffMMConfig}


def make(data, **kwargs):
    kwargs = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, **kwargs}
    return LightGCNTrainer(data, LightGCNConfig(**kwargs))


@pytest.fixture
def script(monkeypatch):
    r"""Lets the recalls of epochs be those given."""

    def script(recalls):
        values = (recall for recall in recalls for _ in ('val', 'test'))
        monkeypatch.setattr(
            trainer_module,
            'mean_metrics',
            lambda *_: {'recall@3': next(values)},
        )

    return script


def test_best_weights_are_in_place(planted):
    trainer = make(planted(), num_epochs=6, lr=0.1)
    trainer.fit()
    recalls = [r['val']['recall@3'] for r in trainer.history]
    best = recalls.index(max(recalls))
    assert trainer.best_val is trainer.history[best]
    assert trainer.evaluate('val') == trainer.best_val['val']
    assert trainer.evaluate('test') == trainer.best_val['test']
    recalls = [r['test']['recall@3'] for r in trainer.history]
    assert trainer.best_test['test']['recall@3'] == max(recalls)


def test_patience(planted, script):
    trainer, weights = make(planted(), num_epochs=20, patience=3), []
    script([0.1, 0.3, 0.3, 0.2, 0.1] + 15 * [0.0])
    trainer.fit(callback=lambda _: weights.append(weights_of(trainer)))
    assert [r['epoch'] for r in trainer.history] == [1, 2, 3, 4, 5]
    # The first of equals.
    assert trainer.best_val['epoch'] == 2
    assert_close(weights_of(trainer), weights[1])
    for one, other in zip(weights[1], weights[4]):
        assert not one.equal(other)
    # Another call trains no further epoch.
    assert len(trainer.fit()) == 5


def test_interruption(planted, script):
    trainer, weights = make(planted(), num_epochs=6), []
    script([0.1, 0.5, 0.2, 0.1, 0.1, 0.1])

    def stop(record):
        weights.append(weights_of(trainer))
        if record['epoch'] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(callback=stop)
    assert len(trainer.history) == 3
    assert_close(weights_of(trainer), weights[1])
    # The best weights stay, since no later epoch is better.
    trainer.fit()
    assert len(trainer.history) == 6
    assert_close(weights_of(trainer), weights[1])


def test_progress(planted, capsys):
    trainer = make(planted(), num_epochs=1, batch_size=7)
    trainer.fit(progress=True)
    total = trainer.task.num_epoch_steps
    assert f'Epoch 1:   0%|          | 0/{total}' in capsys.readouterr().err


def test_progress_without_tqdm(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    trainer = make(planted())
    with pytest.raises(ImportError, match=r"tqdm.*'diffmm_geo\[examples\]'"):
        trainer.fit(progress=True)
    assert not trainer.history


def test_files_of_a_run_without_matplotlib(planted, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    trainer = make(planted(), num_epochs=1)
    trainer.fit()
    with pytest.raises(ImportError, match=r"matplotlib.*\[examples\]'"):
        save_run(trainer, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {'metrics.json', 'model.pt'}


def test_step_whose_loss_is_not_finite(planted, monkeypatch, tmp_path):
    trainer = make(planted(), num_epochs=9, batch_size=8)
    weights, calls, loss_of = [], [], trainer.task.loss
    last_call = 2 * trainer.task.num_batches + 3

    def loss(batch):
        calls.append(1)
        losses = loss_of(batch)
        if len(calls) == last_call:
            losses['bpr'] = losses['bpr'] * math.inf
        return losses

    monkeypatch.setattr(trainer.task, 'loss', loss)
    with pytest.raises(
        NonFiniteLossError, match="the loss 'bpr' is inf in epoch 3, step 3"
    ) as error:
        trainer.fit(
            callback=lambda _: weights.append(weights_of(trainer)),
            checkpoint_dir=tmp_path,
        )
    assert (error.value.epoch, error.value.step) == (3, 3)
    assert len(calls) == last_call  # It stopped at once.
    best = trainer.best_val['epoch'] - 1
    assert_close(weights_of(trainer), weights[best], rtol=0, atol=0)
    # The checkpoint is that of the last finite epoch.
    assert len(read_checkpoint(tmp_path / 'last.ckpt')['history']) == 2


@pytest.mark.parametrize('stop_at', [1, 3, 6])
def test_resume(planted, tmp_path, stop_at):
    expected = make(planted(), num_epochs=6)
    expected.fit()

    def stop(record):
        if record['epoch'] == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(planted(), num_epochs=6).fit(
            callback=stop, checkpoint_dir=tmp_path
        )
    trainer, numbers = make(planted(), num_epochs=6), []
    trainer.fit(
        callback=[lambda r: numbers.append(r['epoch'])],
        checkpoint_dir=tmp_path,
        resume=True,
    )
    assert numbers == list(range(stop_at + 1, 7))
    assert losses_of(trainer.history) == losses_of(expected.history)
    assert trainer.evaluate('val') == expected.best_val['val']
    # The best weights are in the checkpoint.
    last = read_checkpoint(tmp_path / 'last.ckpt')
    other = make(planted(), num_epochs=6)
    other.load_state_dict(last['best'] or last['state'])
    assert other.evaluate('val') == expected.best_val['val']


def test_resume_after_damage(planted, tmp_path):
    make(planted(), num_epochs=1).fit(checkpoint_dir=tmp_path)
    last = tmp_path / 'last.ckpt'
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ValueError, match='last.ckpt.*expected a whole'):
        make(planted()).fit(checkpoint_dir=tmp_path, resume=True)


def test_resume_without_a_checkpoint(planted, tmp_path):
    trainer = make(planted(), num_epochs=1)
    with pytest.raises(ValueError, match="'checkpoint_dir'"):
        trainer.fit(resume=True)
    assert len(trainer.fit(checkpoint_dir=tmp_path, resume=True)) == 1


def test_new_run_replaces_checkpoints(planted, tmp_path):
    make(planted(), num_epochs=3).fit(checkpoint_dir=tmp_path)
    (tmp_path / 'last.ckpt.0.tmp').write_bytes(b'killed')
    make(planted(), num_epochs=1, seed=1).fit(checkpoint_dir=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['last.ckpt']
    assert len(read_checkpoint(tmp_path / 'last.ckpt')['history']) == 1


def test_resume_of_another_run(planted, tmp_path):
    make(planted(), num_epochs=1).fit(checkpoint_dir=tmp_path)

    def resume(data, **kwargs):
        trainer = make(data, num_epochs=2, **kwargs)
        trainer.fit(checkpoint_dir=tmp_path, resume=True)

    with pytest.raises(ValueError, match="'lr' needs to be 0.001"):
        resume(planted(), lr=0.5)
    data = planted()
    edge_index = data[OBSERVED].edge_index
    data[OBSERVED].edge_index = edge_index[:, 1:]
    with pytest.raises(ValueError, match="'data'.*'edge_index'"):
        resume(data)
    with pytest.raises(ValueError, match='DiffMMTask'):
        DiffMMTrainer(planted()).fit(checkpoint_dir=tmp_path, resume=True)
    resume(planted(), patience=7)  # Which does not change the training.


def test_without_test_split(planted):
    data = planted()
    del data[OBSERVED].test_edge_label_index
    trainer = make(data, num_epochs=1)
    assert 'test' not in trainer.fit()[0]
    with pytest.raises(ValueError, match="'split'"):
        trainer.evaluate('test')


def test_takes_a_task(planted):
    with pytest.raises(ValueError, match="'task' needs to be"):
        Trainer(planted())


def test_what_it_shows_of_its_task(planted):
    trainer = make(planted())
    task = trainer.task
    assert trainer.model is task.model and trainer.config is task.config
    assert trainer.edge_index is task.edge_index
    assert trainer.edge_label_index is task.edge_label_index
    assert trainer.task.device == torch.device('cpu')


@pytest.mark.parametrize('metric', ['ndcg', 'mrr'])
def test_metric_that_selects_the_epoch(planted, monkeypatch, metric):
    values = iter([(0.1, 0.5), (0.2, 0.4), (0.3, 0.6), (0.4, 0.3)] * 2)

    def metrics(*_):
        recall, other = next(values)
        return {'recall@3': recall, f'{metric}@3': other}

    monkeypatch.setattr(trainer_module, 'mean_metrics', metrics)
    data = planted()
    del data[OBSERVED]['test_edge_label_index']
    trainer = make(data, num_epochs=4, metric=metric)
    trainer.fit()
    assert trainer.metric == f'{metric}@3'
    assert trainer.best_val['epoch'] == 3
    with pytest.raises(ValueError, match="'metric'"):
        make(data, metric='recall@3')


def make_rarely_evaluated(data):
    return make(data, num_epochs=7, eval_every=3)


def without_seconds(history):
    return [
        {name: x for name, x in record.items() if name != 'seconds'}
        for record in history
    ]


def test_evaluates_every_few_epochs(planted, tmp_path):
    expected = make(planted(), num_epochs=7)
    expected.fit()
    weights, trainer = {}, make_rarely_evaluated(planted())
    trainer.fit(
        callback=lambda r: weights.update({r['epoch']: weights_of(trainer)})
    )
    evaluated = [r['epoch'] for r in trainer.history if 'val' in r]
    assert evaluated == [3, 6, 7]
    for record, other in zip(
        without_seconds(trainer.history), without_seconds(expected.history)
    ):
        if record['epoch'] not in evaluated:
            del other['val'], other['test']
        assert record == other
    best = trainer.best_val['epoch']
    assert_close(weights_of(trainer), weights[best], rtol=0, atol=0)
    save_run(trainer, tmp_path)


@pytest.mark.parametrize('stop_at', [1, 2, 4])
def test_resume_of_a_run_that_is_rarely_evaluated(planted, tmp_path, stop_at):
    expected = make_rarely_evaluated(planted())
    expected.fit()

    def stop(record):
        if record['epoch'] == stop_at:
            raise KeyboardInterrupt

    interrupted = make_rarely_evaluated(planted())
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(callback=stop, checkpoint_dir=tmp_path)
    if stop_at < 3:
        with pytest.raises(ValueError, match="'history' needs an epoch that"):
            save_run(interrupted, tmp_path / 'run')
    resumed = make_rarely_evaluated(planted())
    resumed.fit(checkpoint_dir=tmp_path, resume=True)
    assert without_seconds(resumed.history) == without_seconds(expected.history)
    assert_close(weights_of(resumed), weights_of(expected), rtol=0, atol=0)


def test_patience_counts_from_evaluated_epochs(planted, script):
    script([0.3, 0.2, 0.1, 0.1])
    trainer = make(planted(), num_epochs=90, eval_every=5, patience=6)
    trainer.fit()
    assert trainer.history[-1]['epoch'] == 15


@pytest.mark.parametrize('cls', [LightGCNTrainer, DiffMMTrainer])
def test_has_random_numbers_of_its_own(planted, cls):
    settings = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, 'num_epochs': 2}
    if cls is DiffMMTrainer:
        settings['hidden_channels'] = 8

    def start(seed):
        return cls(planted(), CONFIGS[cls](**settings, seed=seed))

    alone = []
    for seed in (0, 1):
        trainer = start(seed)
        alone.append((losses_of(trainer.fit()), weights_of(trainer)))
    assert alone[0][0] != alone[1][0]

    torch.manual_seed(5)
    expected = [float(torch.rand(())) for _ in range(4)]
    torch.manual_seed(5)
    trainers, numbers = [start(seed) for seed in (0, 1)], []
    numbers.append(float(torch.rand(())))
    trainers[0].train_epoch()
    trainers[0].evaluate()
    numbers.append(float(torch.rand(())))
    # A callback trains another one, and draws numbers.
    again = start(0)
    for trainer in (trainers[1], again):
        trainer.fit(
            callback=[
                lambda _: numbers.append(float(torch.rand(()))),
                lambda _: trainers[0].train_epoch(),
            ]
        )
    assert numbers[:4] == expected
    assert losses_of(trainers[1].history) == alone[1][0]
    assert losses_of(again.history) == alone[0][0]
    for one, other in zip(weights_of(again), alone[0][1]):
        assert one.equal(other)


def test_threads_do_not_disturb_each_other(planted):
    def losses(seed):
        trainer = make(planted(), num_epochs=8, batch_size=8, seed=seed)
        return losses_of(trainer.fit())

    seeds = [0, 0, 1, 2]
    expected = [losses(seed) for seed in seeds]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(seeds)) as pool:
            assert list(pool.map(losses, seeds)) == expected
    finally:
        sys.setswitchinterval(interval)


def test_a_constructor_that_fails_leaves_random_numbers(planted):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="'diffusion'"):
        DiffMMTrainer(planted(), diffusion=3)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize('callback', [3, [3], 'show', {1: print}])
def test_bad_callback(planted, callback):
    trainer = LightGCNTrainer(planted(), LightGCNConfig(num_epochs=1, k=2))
    with pytest.raises(ValueError, match="'callback' needs to be a callable"):
        trainer.fit(callback=callback)
    assert trainer.history == []
