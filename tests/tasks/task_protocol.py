import math

import pytest
import torch
from torch.testing import assert_close

OBSERVED = ('user', 'interacts', 'item')


def losses_of(history):
    return [
        {key: record[key] for key in ('epoch', 'loss', 'val', 'test')}
        for record in history
    ]


def weights_of(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


class Protocol:
    r"""What every task does under a trainer, which :meth:`make` makes."""

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

    def test_epoch(self, planted):
        r"""Without a trainer, by the public methods alone."""
        task = self.make(planted(), batch_size=7).task
        steps = []
        task.start_epoch(lambda: steps.append(1))
        weights = []
        for batch in task.batches():
            losses = task.loss(batch)
            assert tuple(losses) == task.loss_names
            task.model.zero_grad()
            sum(losses.values()).backward()
            for optimizer in task.loss_optimizers:
                optimizer.step()
            weights.append(task.weight(batch))
        assert all(p.grad is not None for p in task.model.parameters())
        assert len(weights) == task.num_batches
        assert len(steps) + len(weights) == task.num_epoch_steps
        assert sum(weights) == pytest.approx(1)
        user, item = task.embeddings()
        assert user.size(0) == task.num_users
        assert item.size(0) == task.num_items
        assert not user.requires_grad and not item.requires_grad

    def test_state_and_device(self, planted):
        data = planted()
        everything = torch.stack([torch.zeros(24).long(), torch.arange(24)])
        observed = data[OBSERVED].edge_index
        # A user without a negative item.
        data[OBSERVED].edge_index = torch.cat([everything, observed], dim=1)
        trainer, other = self.make(data, num_epochs=2), self.make(data, seed=5)
        trainer.fit()
        expected = trainer.embeddings()
        assert not other.embeddings()[0].equal(expected[0])
        other.task.set_state(trainer.task.get_state())
        assert_close(other.embeddings(), expected)
        task = trainer.task
        task.device = torch.device('meta')  # As if it came from there.
        task.to('cpu')
        assert task.device == torch.device('cpu')
        assert_close(task.embeddings(), expected, rtol=0, atol=0)
        for batch in task.batches():
            assert all(x.isfinite() for x in task.loss(batch).values())

    def test_custom_edge_type(self, planted):
        edge_type = ('customer', 'buys', 'product')
        trainer = self.make(
            planted(edge_type=edge_type), edge_type=edge_type, num_epochs=2
        )
        history = trainer.fit()
        expected = self.make(planted(), num_epochs=2).fit()
        assert losses_of(history) == losses_of(expected)
