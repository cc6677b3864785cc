r"""Each scorer against its dense formula in double precision."""

import sys

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.scorers import EASE, ItemCosine, Popularity, UserCosine
from tests.wrong_values import wrong_values

U, I = 12, 10
USERS = torch.arange(U)


def test_popularity(interactions):
    edge_index, x = interactions
    score = Popularity(edge_index, U, I)(USERS)
    assert score.double().equal(x.sum(dim=0).expand(U, I))


def cosine(x):
    r"""The cosine of rows, without that of a row to itself."""
    x = torch.nn.functional.normalize(x, dim=1)
    return (x @ x.t()).fill_diagonal_(0.0)


def test_item_cosine(interactions):
    edge_index, x = interactions
    score = ItemCosine(edge_index, U, I)(USERS)
    assert_close(score.double(), x @ cosine(x.t()), rtol=1e-5, atol=1e-6)
    assert not score[-1].any() and not score[:, -1].any()


def test_user_cosine(interactions):
    edge_index, x = interactions
    score = UserCosine(edge_index, U, I)(USERS)
    assert_close(score.double(), cosine(x) @ x, rtol=1e-5, atol=1e-6)
    assert not score[-1].any() and not score[:, -1].any()
    # A user may be asked for twice.
    twice = torch.tensor([3, 0, 3])
    assert_close(UserCosine(edge_index, U, I)(twice), score[twice])


@pytest.mark.parametrize('reg_weight', [1e-3, 0.5, 50.0])
def test_ease(interactions, reg_weight):
    edge_index, x = interactions
    scorer = EASE(edge_index, U, I, reg_weight)
    p = (x.t() @ x + reg_weight * torch.eye(I).double()).inverse()
    weight = (-p / p.diagonal()).fill_diagonal_(0.0)
    assert_close(scorer.weight.double(), weight, rtol=1e-4, atol=1e-6)
    assert_close(scorer(USERS).double(), x @ weight, rtol=1e-4, atol=1e-5)


def test_ease_solves_its_least_squares(interactions):
    r"""No other weights with a zero diagonal have a lower objective."""
    edge_index, x = interactions

    def objective(weight):
        return (x - x @ weight).square().sum() + 2.0 * weight.square().sum()

    weight = EASE(edge_index, U, I, 2.0).weight.double()
    best = objective(weight)
    for _ in range(20):
        change = torch.randn(I, I).double().fill_diagonal_(0.0)
        assert objective(weight + 0.01 * change) > best


@wrong_values(reg_weight=[0.0, -1.0, float('nan'), '50'])
def test_wrong_ease(interactions, name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        EASE(interactions[0], U, I, **{name: value})


def test_ease_of_too_many_items(monkeypatch):
    edge_index = torch.zeros(2, 1).long()
    with pytest.raises(ValueError, match="'num_items'.*16,000,000,000,000 byt"):
        EASE(edge_index, 1, 10**6)
    monkeypatch.setattr(
        sys.modules['diffmm_geo.scorers.ease'], 'MAX_BYTES', 1600
    )
    EASE(edge_index, 1, 10)
    with pytest.raises(ValueError, match='at most 10, .* 1,936 bytes'):
        EASE(edge_index, 1, 11)
