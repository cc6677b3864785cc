import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import MF, VBPR

U, I, J = (torch.tensor(x) for x in ([0, 5, 0], [1, 2, 3], [4, 4, 1]))


def make_vbpr():
    model = VBPR(8, torch.randn(6, 3), embedding_dim=4, feature_dim=2)
    for lin in (model.item_bias, model.feature_bias):
        torch.nn.init.normal_(lin.weight)
    return model


def test_mf_score():
    model = MF(8, 6, 4)
    user, item = model()
    assert user is model.user_emb.weight and item is model.item_emb.weight
    assert str(model) == 'MF(8, 6, embedding_dim=4)'


def test_vbpr_score():
    model = make_vbpr()
    assert 'feature' not in model.state_dict()
    f = model.feature
    expected = (
        model.user_emb.weight @ model.item_emb.weight.t()
        + model.user_taste.weight @ model.projection.weight @ f.t()
        + model.item_bias.weight.t()
        + model.feature_bias.weight @ f.t()
    )
    user, item = model()
    assert_close(user @ item.t(), expected)
    assert str(model) == 'VBPR(8, 6, embedding_dim=4, feature_dim=2)'


@pytest.mark.parametrize('make', [lambda: MF(8, 6, 4), make_vbpr])
def test_loss(make):
    model = make()
    user, item = model()
    margin = (user[U] * (item[I] - item[J])).sum(dim=-1)
    losses = model.loss(torch.stack([U, I]), J, reg_weight=0.1)
    assert_close(losses['bpr'], -torch.sigmoid(margin).log().mean())
    rows = [model.user_emb(U), model.item_emb(I), model.item_emb(J)]
    if isinstance(model, VBPR):
        rows += [model.user_taste(U), model.item_bias(I), model.item_bias(J)]
    reg = sum(x.square().sum() for x in rows) / 3
    assert_close(losses['reg'], 0.1 * reg)
    if isinstance(model, VBPR):
        lins = model.projection.weight, model.feature_bias.weight
        more = 0.5 * sum(x.square().sum() for x in lins)
        losses = model.loss(
            torch.stack([U, I]), J, reg_weight=0.1, feature_reg_weight=0.5
        )
        assert_close(losses['reg'], 0.1 * reg + more)


@pytest.mark.parametrize('name', ['num_users', 'embedding_dim', 'feature_dim'])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        VBPR(**{'num_users': 3, 'feature': torch.randn(4, 2), name: 0})
    if name != 'feature_dim':
        with pytest.raises(ValueError, match=f"'{name}'"):
            MF(**{'num_users': 3, 'num_items': 4, name: 0})
