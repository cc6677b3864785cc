import torch
from torch.testing import assert_close

from diffmm_geo.tasks import DenoiserTask
from diffmm_geo.training import DenoiserConfig, Trainer
from tests.tasks.task_protocol import OBSERVED, losses_of


def make(data, **kwargs):
    kwargs = {'batch_size': 7, 'hidden_channels': 8, 'k': 3, **kwargs}
    return DenoiserTask(data, DenoiserConfig(**kwargs), OBSERVED)


def test_learns_communities(planted):
    trainer = Trainer(make(planted(), num_epochs=40, lr=2e-2))
    before = trainer.evaluate('val')['recall@3']
    history = trainer.fit()
    assert trainer.evaluate('val')['recall@3'] > max(0.75, before)
    assert history[-1]['loss']['nll'] < history[0]['loss']['nll']


def test_same_seed_gives_the_same_history(planted):
    runs = [
        losses_of(Trainer(make(planted(), num_epochs=2, seed=seed)).fit())
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_scores_are_those_of_the_whole_row(planted):
    task = make(planted())
    user, item = task.embeddings()
    x_start = task.interactions.dense(item)
    expected = task.model.sample(x_start)
    assert_close((user @ item.t()).log_softmax(dim=1), expected)


def test_batches_hold_each_user_with_interactions_once(planted):
    data = planted()
    store = data[OBSERVED]
    store.edge_index = store.edge_index[:, store.edge_index[0] != 2]
    task = make(data)
    batches = list(task.batches())
    assert len(batches) == task.num_batches
    users = torch.cat(batches, dim=1)[0].sort().values
    assert users.equal(store.edge_index[0].unique())
    assert_close(sum(task.weight(batch) for batch in batches), 1.0)


def test_regularization(planted):
    task = make(planted(), reg_weight=0.5)
    (batch, *_) = task.batches()
    denoiser = task.model.denoiser
    tables = denoiser.item_weight, denoiser.lin_out.weight
    expected = 0.5 * sum(x.square().sum() for x in tables)
    assert_close(task.loss(batch)['reg'], expected)
