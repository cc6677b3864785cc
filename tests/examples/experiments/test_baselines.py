import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import Trainer
from examples.experiments.baselines import (
    MF,
    OBSERVED,
    VBPR,
    BPRTask,
    MFConfig,
    VBPRConfig,
)

U, I, J = (torch.tensor(x) for x in ([0, 5, 0], [1, 2, 3], [4, 4, 1]))


def make_vbpr():
    model = VBPR(8, torch.randn(6, 3), dim=4, feature_dim=2)
    for lin in (model.item_bias, model.feature_bias):
        torch.nn.init.normal_(lin.weight)
    return model


def test_vbpr_score():
    model = make_vbpr()
    f = model.feature
    expected = (
        model.user_emb.weight @ model.item_emb.weight.t()
        + model.user_taste.weight @ model.projection.weight @ f.t()
        + model.item_bias.weight.t()
        + model.feature_bias.weight @ f.t()
    )
    user, item = model()
    assert_close(user @ item.t(), expected)


@pytest.mark.parametrize('make', [lambda: MF(8, 6, 4), make_vbpr])
def test_loss(make):
    model = make()
    user, item = model()
    margin = (user[U] * (item[I] - item[J])).sum(dim=-1)
    rows = [model.user_emb(U), model.item_emb(I), model.item_emb(J)]
    more, weights = 0.0, {'reg_weight': 0.1}
    if isinstance(model, VBPR):
        rows += [model.user_taste(U), model.item_bias(I), model.item_bias(J)]
        lins = model.projection.weight, model.feature_bias.weight
        more = 0.5 * sum(x.square().sum() for x in lins)
        weights['feature_reg_weight'] = 0.5
    losses = model.loss(torch.stack([U, I, J]), **weights)
    assert_close(losses['bpr'], -torch.sigmoid(margin).log().mean())
    reg = sum(x.square().sum() for x in rows) / 3
    assert_close(losses['reg'], 0.1 * reg + more)


@pytest.mark.parametrize('config_class', [MFConfig, VBPRConfig])
def test_learns_communities(planted, config_class):
    data, is_cold = planted(), torch.arange(24) < 4
    if config_class is VBPRConfig:  # From features alone.
        store = data[OBSERVED]
        store.edge_index = store.edge_index[:, ~is_cold[store.edge_index[1]]]
    kwargs = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, 'lr': 2e-2}
    config = config_class(num_epochs=40, **kwargs)
    trainer = Trainer(BPRTask(data, config))
    trainer.fit()
    assert trainer.best_val['val']['recall@3'] > 0.75
    if config_class is VBPRConfig:
        assert 'feature' in trainer.task.data_dict  # For a resumed run.
        user, item = trainer.embeddings()
        # One item of each community.
        found = (user @ item[is_cold].t()).argmax(dim=-1)
        assert (found == torch.arange(32) % 4).float().mean() > 0.75
