import sys

import pytest

from diffmm_geo.training.loggers import TensorBoardLogger


def record(epoch, bpr=0.5):
    return {
        'epoch': epoch,
        'loss': {'bpr': bpr},
        'val': {'recall@20': epoch / 8},
        'seconds': {'generate': 0.25},
    }


def read(folder):
    module = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    accumulator = module.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()['scalars']
    }


@pytest.fixture(autouse=True)
def tensorboard():
    pytest.importorskip('tensorboard')


def test_scalars_by_epoch(tmp_path):
    with TensorBoardLogger(tmp_path / 'new') as log:
        log(record(1))
        # To be seen while training goes on.
        assert read(tmp_path / 'new')['loss/bpr'] == [(1, 0.5)]
        log(record(2))
    assert read(tmp_path / 'new') == {
        'loss/bpr': [(1, 0.5), (2, 0.5)],
        'val/recall@20': [(1, 0.125), (2, 0.25)],
        'seconds/generate': [(1, 0.25), (2, 0.25)],
    }


@pytest.mark.parametrize('same', [True, False])
def test_resumed_epochs_replace_scalars(tmp_path, same):
    log = TensorBoardLogger(tmp_path)
    for epoch in (1, 2, 3):
        log(record(epoch))
    if not same:
        log.close()
        log = TensorBoardLogger(tmp_path)
    log(record(2, bpr=0.25))
    log.close()
    assert read(tmp_path)['loss/bpr'] == [(1, 0.5), (2, 0.25)]


def test_goes_on_after_it_was_closed(tmp_path):
    log = TensorBoardLogger(tmp_path)
    log(record(1))
    log.close()
    log.close()
    log(record(2))
    log.close()
    assert [step for step, _ in read(tmp_path)['loss/bpr']] == [1, 2]


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    with pytest.raises(ImportError, match=r'diffmm_geo\[tensorboard\]'):
        TensorBoardLogger(tmp_path / 'new')
    assert not (tmp_path / 'new').exists()
