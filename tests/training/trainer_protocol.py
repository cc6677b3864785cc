import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training.checkpoint import read_checkpoint
from diffmm_geo.utils.finite import NonFiniteLossError

OBSERVED = ('user', 'interacts', 'item')


def _losses(history):
    return [
        {key: record[key] for key in ('epoch', 'loss', 'val', 'test')}
        for record in history
    ]


class Protocol:
    r"""What every trainer does; :meth:`make` is given."""

    def make(self, data, **kwargs):
        raise NotImplementedError

    def test_learns_communities(self, planted):
        trainer = self.make(planted(), num_epochs=40, lr=2e-2)
        before = trainer.evaluate('val')['recall@3']
        history = trainer.fit()
        after = trainer.evaluate('val')['recall@3']
        assert after > 0.75
        assert after > before
        for name, value in history[-1]['loss'].items():
            assert math.isfinite(value), name
        assert history[-1]['loss']['bpr'] < 0.8 * history[0]['loss']['bpr']

    def test_same_seed_gives_the_same_history(self, planted):
        first = self.make(planted(), num_epochs=3).fit()
        again = self.make(planted(), num_epochs=3).fit()
        other = self.make(planted(), num_epochs=3, seed=1).fit()
        assert _losses(first) == _losses(again)
        assert _losses(first) != _losses(other)

    def test_best_weights_are_in_place(self, planted):
        trainer = self.make(planted(), num_epochs=6, lr=0.1)
        trainer.fit()
        recalls = [r['val']['recall@3'] for r in trainer.history]
        best = recalls.index(max(recalls))
        assert trainer.best_val is trainer.history[best]
        assert trainer.evaluate('val') == trainer.best_val['val']
        assert trainer.evaluate('test') == trainer.best_val['test']
        recalls = [r['test']['recall@3'] for r in trainer.history]
        assert trainer.best_test['test']['recall@3'] == max(recalls)

    def script(self, trainer, monkeypatch, recalls):
        r"""Lets an epoch's recalls be what they are said to be."""
        epoch = trainer._epoch

        def scripted(progress):
            record = epoch(progress)
            record['val']['recall@3'] = recalls[record['epoch'] - 1]
            return record

        monkeypatch.setattr(trainer, '_epoch', scripted)

    def weights(self, trainer):
        return [p.detach().clone() for p in trainer.model.parameters()]

    def test_patience(self, planted, monkeypatch):
        trainer = self.make(planted(), num_epochs=20, patience=3)
        recalls = [0.1, 0.3, 0.3, 0.2, 0.1] + 15 * [0.0]
        self.script(trainer, monkeypatch, recalls)
        weights = []
        trainer.fit(callback=lambda _: weights.append(self.weights(trainer)))
        assert [r['epoch'] for r in trainer.history] == [1, 2, 3, 4, 5]
        # The first of equals.
        assert trainer.best_val['epoch'] == 2
        assert_close(self.weights(trainer), weights[1])
        for one, other in zip(weights[1], weights[4]):
            if one.dim() > 1:
                assert not one.equal(other)
        # Nothing is left to do.
        assert len(trainer.fit()) == 5

    def test_interruption(self, planted, monkeypatch):
        trainer = self.make(planted(), num_epochs=6)
        self.script(trainer, monkeypatch, [0.1, 0.5, 0.2, 0.1, 0.1, 0.1])
        weights = []

        def stop(record):
            weights.append(self.weights(trainer))
            if record['epoch'] == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.fit(callback=stop)
        assert len(trainer.history) == 3
        assert_close(self.weights(trainer), weights[1])
        # Going on without finding a better epoch leaves them in place.
        trainer.fit()
        assert len(trainer.history) == 6
        assert_close(self.weights(trainer), weights[1])

    def test_state_dict(self, planted):
        trainer = self.make(planted(), num_epochs=2)
        trainer.fit()
        other = self.make(planted(), seed=5)
        assert not other.embeddings()[0].equal(trainer.embeddings()[0])
        other.load_state_dict(trainer.state_dict())
        assert_close(other.embeddings(), trainer.embeddings())

    def test_progress(self, planted, monkeypatch):
        steps = []
        trainer = self.make(planted(), num_epochs=1, batch_size=7)
        train_epoch = trainer.train_epoch

        def counted():
            step = trainer._on_step
            trainer._on_step = lambda: steps.append(1) or step()
            return train_epoch()

        monkeypatch.setattr(trainer, 'train_epoch', counted)
        trainer.fit(progress=True)
        assert len(steps) == trainer.num_steps

    def test_loss_that_is_not_finite(self, planted, monkeypatch):
        trainer = self.make(planted(), num_epochs=2)
        monkeypatch.setattr(trainer, 'train_epoch', lambda: {'bpr': math.nan})
        with pytest.raises(FloatingPointError, match="'bpr' is nan"):
            trainer.fit()

    def test_step_whose_loss_is_not_finite(
        self, planted, monkeypatch, tmp_path
    ):
        trainer = self.make(planted(), num_epochs=9, batch_size=8)
        weights, calls = [], []
        loss_fn = trainer._loss

        def loss(*args):
            terms = loss_fn(*args)
            calls.append(1)
            factor = torch.ones_like(terms)
            if len(calls) == 2 * steps + 3:
                factor[0] = math.inf
            return terms * factor

        steps = -(-trainer._positives.size(1) // 8)
        monkeypatch.setattr(trainer, '_loss', loss)
        with pytest.raises(
            NonFiniteLossError, match="the loss 'bpr' is inf in epoch 3, step 3"
        ) as error:
            trainer.fit(
                callback=lambda _: weights.append(self.weights(trainer)),
                checkpoint_dir=tmp_path,
            )
        assert (error.value.epoch, error.value.step) == (3, 3)
        assert len(calls) == 2 * steps + 3  # It stopped at once.
        best = trainer.best_val['epoch'] - 1
        assert_close(self.weights(trainer), weights[best], rtol=0, atol=0)
        # That of the last good epoch.
        last = read_checkpoint(tmp_path / 'last.ckpt')
        assert len(last['history']) == 2

    @pytest.mark.parametrize('stop_at', [1, 3, 6])
    def test_resume_is_exact(self, planted, tmp_path, stop_at):
        expected = self.make(planted(), num_epochs=6)
        expected.fit()

        def stop(record):
            if record['epoch'] == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.make(planted(), num_epochs=6).fit(
                callback=stop, checkpoint_dir=tmp_path
            )
        torch.manual_seed(7)
        trainer = self.make(planted(), num_epochs=6)
        numbers = []
        trainer.fit(
            callback=[lambda r: numbers.append(r['epoch'])],
            checkpoint_dir=tmp_path,
            resume=True,
        )
        assert numbers == list(range(stop_at + 1, 7))
        assert _losses(trainer.history) == _losses(expected.history)
        for one, other in zip(self.weights(trainer), self.weights(expected)):
            assert one.equal(other)
        for name, optimizer in trainer.optimizers.items():
            theirs = expected.optimizers[name].state_dict()
            assert_close(optimizer.state_dict(), theirs, rtol=0, atol=0)
        best = read_checkpoint(tmp_path / 'best.ckpt')
        assert best['record']['epoch'] == expected.best_val['epoch']
        other = self.make(planted(), num_epochs=6)
        other.load_state_dict(best['state'])
        assert other.evaluate('val') == expected.best_val['val']

    def test_resume_after_damage(self, planted, tmp_path):
        expected = self.make(planted(), num_epochs=5).fit()
        self.make(planted(), num_epochs=4).fit(checkpoint_dir=tmp_path)
        last = tmp_path / 'last.ckpt'
        last.write_bytes(last.read_bytes()[:-100])
        trainer = self.make(planted(), num_epochs=5)
        with pytest.warns(UserWarning, match="last.ckpt.*'previous.ckpt' is"):
            history = trainer.fit(checkpoint_dir=tmp_path, resume=True)
        assert _losses(history) == _losses(expected)

        for path in tmp_path.glob('*.ckpt'):
            path.write_bytes(b'nothing')
        trainer = self.make(planted(), num_epochs=5)
        with pytest.raises(ValueError, match='last.ckpt.*expected a whole'):
            trainer.fit(checkpoint_dir=tmp_path, resume=True)

    def test_resume_without_a_checkpoint(self, planted, tmp_path):
        trainer = self.make(planted(), num_epochs=1)
        with pytest.raises(ValueError, match="'checkpoint_dir'"):
            trainer.fit(resume=True)
        assert len(trainer.fit(checkpoint_dir=tmp_path, resume=True)) == 1

    def test_new_run_replaces_checkpoints(self, planted, tmp_path):
        self.make(planted(), num_epochs=3).fit(checkpoint_dir=tmp_path)
        (tmp_path / 'last.ckpt.0.tmp').write_bytes(b'killed')
        trainer = self.make(planted(), num_epochs=1, seed=1)
        trainer.fit(checkpoint_dir=tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            'best.ckpt',
            'last.ckpt',
        ]
        assert len(read_checkpoint(tmp_path / 'last.ckpt')['history']) == 1

    def test_resume_of_another_run(self, planted, tmp_path):
        self.make(planted(), num_epochs=1).fit(checkpoint_dir=tmp_path)

        def resume(data, **kwargs):
            trainer = self.make(data, num_epochs=2, **kwargs)
            trainer.fit(checkpoint_dir=tmp_path, resume=True)

        with pytest.raises(ValueError, match="'lr' needs to be 0.001"):
            resume(planted(), lr=0.5)
        data = planted()
        edge_index = data[OBSERVED].edge_index
        data[OBSERVED].edge_index = edge_index[:, 1:]
        with pytest.raises(ValueError, match="'data'.*'edge_index'"):
            resume(data)
        resume(planted(), patience=7)  # Not what was trained.

    def test_user_with_everything(self, planted):
        data = planted()
        everything = torch.stack([torch.zeros(24).long(), torch.arange(24)])
        observed = data[OBSERVED].edge_index
        data[OBSERVED].edge_index = torch.cat([everything, observed], dim=1)
        history = self.make(data, num_epochs=2).fit()
        for record in history:
            assert all(math.isfinite(v) for v in record['loss'].values())

    def test_nobody_has_negatives(self, planted):
        data = planted()
        data[OBSERVED].edge_index = torch.cartesian_prod(
            torch.arange(32), torch.arange(24)
        ).t()
        with pytest.raises(ValueError, match="'edge_index'"):
            self.make(data, num_epochs=1)

    def test_without_test_split(self, planted):
        data = planted()
        del data[OBSERVED].test_edge_label_index
        trainer = self.make(data, num_epochs=1)
        assert 'test' not in trainer.fit()[0]
        with pytest.raises(ValueError, match="'split'"):
            trainer.evaluate('test')

    def test_custom_edge_type(self, planted):
        edge_type = ('customer', 'buys', 'product')
        trainer = self.make(
            planted(edge_type=edge_type), edge_type=edge_type, num_epochs=2
        )
        history = trainer.fit()
        expected = self.make(planted(), num_epochs=2).fit()
        assert _losses(history) == _losses(expected)

    @pytest.mark.parametrize(
        ('name', 'value'),
        [
            ('edge_index', torch.tensor([[32], [0]])),
            ('edge_index', torch.tensor([[0], [24]])),
            ('edge_index', torch.empty(2, 0).long()),
            ('edge_index', None),
            ('val_edge_label_index', torch.tensor([[-1], [0]])),
            ('val_edge_label_index', None),
            ('test_edge_label_index', torch.zeros(2, 3)),
        ],
    )
    def test_bad_edges(self, planted, name, value):
        data = planted()
        del data[OBSERVED][name]
        if value is not None:
            data[OBSERVED][name] = value
        with pytest.raises(ValueError, match=f"'{name}'"):
            self.make(data)

    def test_missing_edge_type(self, planted):
        with pytest.raises(ValueError, match="'data' needs edges of type"):
            self.make(planted(), edge_type=('user', 'likes', 'item'))

    def test_missing_nodes(self, planted):
        data = planted()
        data['user'].num_nodes = 0
        with pytest.raises(ValueError, match="'data' needs nodes of type"):
            self.make(data)
