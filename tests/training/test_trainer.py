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
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(
            callback=[lambda _: weights.append(weights_of(trainer)), stop_at(3)]
        )
    assert len(trainer.history) == 3
    assert_close(weights_of(trainer), weights[1])
    # The best weights stay, since no later epoch is better.
    trainer.fit()
    assert len(trainer.history) == 6
    assert_close(weights_of(trainer), weights[1])


def test_progress_needs_an_extra(planted, capsys, monkeypatch):
    trainer = make(planted(), num_epochs=1, batch_size=7)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'tqdm', None)
        with pytest.raises(
            ImportError, match=r"tqdm.*'diffmm_geo\[examples\]'"
        ):
            trainer.fit(progress=True)
    assert not trainer.history
    trainer.fit(progress=True)
    total = trainer.task.num_epoch_steps
    assert f'Epoch 1:   0%|          | 0/{total}' in capsys.readouterr().err


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


def stop_at(epoch):
    def stop(record):
        if record['epoch'] == epoch:
            raise KeyboardInterrupt

    return stop


def without_seconds(history):
    return [
        {name: x for name, x in record.items() if name != 'seconds'}
        for record in history
    ]


@pytest.mark.parametrize('eval_every', [1, 3])
@pytest.mark.parametrize('epoch', [1, 2, 4, 7])
def test_resume(planted, tmp_path, epoch, eval_every):
    settings = {'num_epochs': 7, 'eval_every': eval_every}
    expected = make(planted(), **settings)
    expected.fit()
    interrupted, numbers = make(planted(), **settings), []
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(callback=stop_at(epoch), checkpoint_dir=tmp_path)
    if epoch < eval_every:
        with pytest.raises(ValueError, match="'history' needs an epoch that"):
            interrupted.best_val  # noqa: B018 (raises)
    torch.manual_seed(7)
    resumed = make(planted(), **settings)
    resumed.fit(
        callback=[lambda r: numbers.append(r['epoch'])],
        checkpoint_dir=tmp_path,
        resume=True,
    )
    assert numbers == list(range(epoch + 1, 8))
    assert without_seconds(resumed.history) == without_seconds(expected.history)
    assert_close(weights_of(resumed), weights_of(expected), rtol=0, atol=0)
    # The best weights are in the checkpoint.
    last = read_checkpoint(tmp_path / 'last.ckpt')
    other = make(planted())
    other.task.set_state(last['best'] or last['state'])
    assert_close(weights_of(other), weights_of(expected), rtol=0, atol=0)


def test_evaluates_every_few_epochs(planted, script):
    expected = without_seconds(make(planted(), num_epochs=7).fit())
    trainer = make(planted(), num_epochs=7, eval_every=3)
    for record, other in zip(without_seconds(trainer.fit()), expected):
        if record['epoch'] not in (3, 6, 7):
            del other['val'], other['test']
        assert record == other
    # Patience counts from evaluated epochs.
    script([0.3, 0.2, 0.1, 0.1])
    trainer = make(planted(), num_epochs=90, eval_every=5, patience=6)
    assert trainer.fit()[-1]['epoch'] == 15


def test_new_run_replaces_checkpoints(planted, tmp_path):
    with pytest.raises(ValueError, match="'checkpoint_dir'"):
        make(planted()).fit(resume=True)
    args = {'checkpoint_dir': tmp_path}
    # There is none to resume from.
    assert len(make(planted(), num_epochs=3).fit(resume=True, **args)) == 3
    (tmp_path / 'last.ckpt.0.tmp').write_bytes(b'killed')
    make(planted(), num_epochs=1, seed=1).fit(**args)
    (path,) = tmp_path.iterdir()
    assert path.name == 'last.ckpt'
    assert len(read_checkpoint(path)['history']) == 1
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='last.ckpt.*expected a whole'):
        make(planted()).fit(resume=True, **args)


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
    assert 'test' not in trainer.fit()[0]
    with pytest.raises(ValueError, match="'split'"):
        trainer.evaluate('test')
    assert trainer.metric == f'{metric}@3'
    assert trainer.best_val['epoch'] == 3


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


def test_what_fails_leaves_no_trace(planted):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="'diffusion'"):
        DiffMMTrainer(planted(), diffusion=3)
    assert torch.get_rng_state().equal(state)
    trainer = make(planted())
    for callback in (3, [3], 'show', {1: print}):
        with pytest.raises(ValueError, match="'callback' needs to be a calla"):
            trainer.fit(callback=callback)
    assert trainer.history == []
