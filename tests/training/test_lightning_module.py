import importlib
import math
import sys
import warnings

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.utils.finite import NonFiniteLossError

try:
    import lightning.pytorch as pl
except ImportError:
    pl = pytest.importorskip('pytorch_lightning')

from diffmm_geo.training.lightning_module import KEY, DiffMMLightning

OBSERVED = ('user', 'interacts', 'item')
SMALL = {
    'batch_size': 32,
    'embedding_dim': 8,
    'hidden_channels': 8,
    'k': 3,
    'num_epochs': 1000,
    # Standardized, the features tell communities before training.
    'standardize': False,
}


class History(pl.Callback):
    r"""What is logged, by epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({})

    def on_train_end(self, trainer, module):
        self._take(trainer)

    def on_train_epoch_start(self, trainer, module):
        self._take(trainer)

    def _take(self, trainer):
        # The means of an epoch are available after its end.
        if self.epochs and not self.epochs[-1]:
            self.epochs[-1] = {
                k: float(v) for k, v in trainer.callback_metrics.items()
            }


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        # About the number of workers, logging intervals, ...
        warnings.simplefilter('ignore')
        yield


@pytest.fixture
def make(planted):
    def make(data=None, **kwargs):
        config = DiffMMConfig(**{**SMALL, **kwargs})
        return DiffMMLightning(planted() if data is None else data, config)

    return make


@pytest.fixture
def make_trainer(tmp_path):
    def make(max_epochs=2, callbacks=(), checkpoints=False, **kwargs):
        return pl.Trainer(
            max_epochs=max_epochs,
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
            enable_checkpointing=checkpoints,
            enable_progress_bar=False,
            enable_model_summary=False,
            **{'accelerator': 'cpu', 'logger': False, **kwargs},
        )

    return make


def weights(module):
    return {k: p.detach().clone() for k, p in module.named_parameters()}


@pytest.mark.parametrize(
    'settings',
    [{}, {'precision': 'bf16', 'num_candidates': 8}, {'ssl_weight': 0.0}],
)
def test_trains_as_our_trainer_does(planted, make, make_trainer, settings):
    module, history = make(lr=2e-2, **settings), History()
    make_trainer(4, [history]).fit(module)

    config = DiffMMConfig(**{**SMALL, 'lr': 2e-2, **settings, 'num_epochs': 4})
    expected, final = DiffMMTrainer(planted(), config), {}
    expected.fit(callback=lambda r: final.update(weights(expected.model)))
    assert len(history.epochs) == 4
    for ours, theirs in zip(expected.history, history.epochs):
        for group in ('loss', 'val'):
            for name, value in ours[group].items():
                got = theirs[f'{group}/{name}']
                assert got == pytest.approx(value, rel=1e-5), name
    for name, x in weights(module.model).items():
        assert_close(x, final[name])


def test_learns_communities(make, make_trainer, tmp_path):
    module = make(lr=2e-2)
    callbacks = [
        pl.callbacks.EarlyStopping('val/recall@3', mode='max', patience=15),
        pl.callbacks.ModelCheckpoint(
            tmp_path, monitor='val/recall@3', mode='max'
        ),
    ]
    trainer = make_trainer(40, callbacks, checkpoints=True)
    trainer.fit(module)
    (after,) = trainer.validate(ckpt_path='best', verbose=False)
    assert after['val/recall@3'] > 0.75
    assert after['val/recall@3'] == float(callbacks[-1].best_model_score)
    (test,) = trainer.test(ckpt_path='best', verbose=False)
    assert test['test/recall@3'] > 0.5
    assert set(test) == {
        f'test/{name}@3'
        for name in ('recall', 'precision', 'ndcg', 'hit_ratio', 'map', 'mrr')
    }


@pytest.mark.parametrize('validate', [True, False])
def test_resume_is_exact(make, make_trainer, tmp_path, validate):
    limit = {} if validate else {'limit_val_batches': 0}
    expected, history = make(), History()
    make_trainer(5, [history], **limit).fit(expected)

    saver = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    make_trainer(2, [saver], checkpoints=True, **limit).fit(make())
    module, resumed = make(), History()
    torch.rand(5)
    make_trainer(5, [resumed], **limit).fit(
        module, ckpt_path=tmp_path / 'last.ckpt'
    )
    assert resumed.epochs == history.epochs[2:]
    for name, x in weights(expected).items():
        assert weights(module)[name].equal(x)
    for edge_type, edge_index in expected.task.edge_index_dict.items():
        assert module.task.edge_index_dict[edge_type].equal(edge_index)


def test_resume_within_an_epoch(make, make_trainer, tmp_path):
    saver = pl.callbacks.ModelCheckpoint(
        tmp_path, every_n_train_steps=2, save_top_k=-1
    )
    make_trainer(2, [saver], checkpoints=True).fit(make())
    path = next(tmp_path.glob('*step=2.ckpt'))
    module, history = make(), History()
    make_trainer(3, [history]).fit(module, ckpt_path=path)
    assert module.current_epoch == 3
    for epoch in history.epochs:
        assert all(math.isfinite(v) for v in epoch.values())


def test_load_and_predict(planted, make_trainer, tmp_path):
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type)
    module = DiffMMLightning(data, SMALL, ['text'], edge_type=edge_type)
    trainer = make_trainer(2)
    trainer.fit(module)
    assert 'loss/diffusion_text' in trainer.callback_metrics
    assert 'loss/diffusion_image' not in trainer.callback_metrics
    path = tmp_path / 'a.ckpt'
    trainer.save_checkpoint(path)
    loaded = DiffMMLightning.load_from_checkpoint(path, data=data)
    assert loaded.config == module.config
    graphs = module.task.edge_index_dict
    assert list(graphs) == [edge_type, ('customer', 'denoised_text', 'product')]
    assert loaded.task.edge_index_dict.keys() == graphs.keys()
    for t, edge_index in graphs.items():
        assert loaded.task.edge_index_dict[t].equal(edge_index)
    task = module.task
    expected = module.model.recommend(
        task.feature_dict, graphs, 3, task.edge_index
    )
    users = DataLoader(torch.arange(6), batch_size=4)  # Of one's own.
    for x in (module, loaded):
        assert torch.cat(trainer.predict(x)).equal(expected)
        assert torch.cat(trainer.predict(x, users)).equal(expected[:6])
        assert x(torch.tensor([5, 2])).equal(expected[[5, 2]])
        assert x().equal(expected)
    # A new training can start from it, but not from another file, of which
    # no code is executed.
    make_trainer(1).fit(loaded)
    content = torch.load(path, weights_only=True)
    del content[KEY]
    torch.save(content, path)
    with pytest.raises(ValueError, match="'checkpoint' needs to be one of"):
        make_trainer(1).fit(loaded, ckpt_path=path)


def test_options_of_lightning(planted, make_trainer, tmp_path):
    class Scheduled(DiffMMLightning):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return [optimizer], [schedule]

    module = Scheduled(planted(), {**SMALL, 'lr': 0.1})
    before = module.model.user_emb.weight.detach().clone()
    trainer = make_trainer(
        2,
        # All gradients of an epoch make one step, which is too small to see.
        accumulate_grad_batches=3,
        gradient_clip_val=1e-20,
        logger=pl.loggers.CSVLogger(tmp_path),
    )
    trainer.fit(module)
    assert trainer.global_step == 2
    assert_close(module.model.user_emb.weight, before)
    assert module.task.optimizers['model'].param_groups[0]['lr'] == 0.025
    (metrics,) = tmp_path.rglob('metrics.csv')
    header, *rows = metrics.read_text().splitlines()
    assert {'loss/bpr', 'val/recall@3'} <= set(header.split(','))
    assert len(rows) >= 2


def test_what_it_refuses(planted, make, make_trainer):
    with pytest.raises(ValueError, match="'cuda_graphs'"):
        make(cuda_graphs=True)
    trainer = make_trainer(1, precision='bf16-mixed')
    with pytest.raises(ValueError, match="'precision' needs to be '32-true'"):
        trainer.fit(make())
    data = planted()
    del data[OBSERVED].test_edge_label_index
    module, trainer = make(data), make_trainer(1, num_sanity_val_steps=0)
    with pytest.raises(ValueError, match="'test_edge_label_index'"):
        trainer.test(module)
    with torch.no_grad():
        module.model.user_emb.weight[0, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match='in epoch 1, step 1'):
        trainer.fit(module)


def test_without_lightning(monkeypatch):
    name = 'diffmm_geo.training.lightning_module'
    monkeypatch.setattr(name, None)  # The package gets its module back.
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'lightning.pytorch', None)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'pytorch_lightning', None)
        with pytest.raises(ImportError, match=r'diffmm_geo\[lightning\]'):
            importlib.import_module(name)
    other = pytest.importorskip('pytorch_lightning')
    module = importlib.import_module(name)
    assert issubclass(module.DiffMMLightning, other.LightningModule)


@pytest.mark.gpu
def test_on_a_gpu(make, make_trainer):
    module = make(lr=2e-2)
    trainer = make_trainer(20, accelerator='gpu', devices=1)
    trainer.fit(module)
    (after,) = trainer.validate(module, verbose=False)
    assert after['val/recall@3'] > 0.75
    assert module.task.device.type == 'cpu'
