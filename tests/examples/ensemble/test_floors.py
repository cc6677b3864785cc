r"""Each floor against its dense formula in double precision."""

import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from examples.ensemble.floors import (
    ease,
    feature_cosine,
    item_cosine,
    popularity,
    user_cosine,
)
from examples.ensemble.random_walk import random_walk

U, I = 12, 10
USERS = torch.arange(U)
FLOORS = ease, item_cosine, popularity, random_walk, user_cosine


@pytest.mark.parametrize('exponent', [0.0, 0.5, 1.0, 2.0])
def test_popularity(interactions, exponent):
    edge_index, x = interactions
    score = popularity(edge_index, U, I, exponent)(USERS)
    weight = x.sum(dim=1, keepdim=True).clamp(min=1) ** -exponent
    assert_close(
        score.double(), (weight * x).sum(0).expand(U, I), rtol=1e-5, atol=0
    )


def cosine(x):
    r"""The cosine of rows, without that of a row to itself."""
    x = normalize(x, dim=1)
    return (x @ x.t()).fill_diagonal_(0.0)


@pytest.mark.parametrize('make', [item_cosine, user_cosine])
def test_cosines(interactions, make):
    edge_index, x = interactions
    score = make(edge_index, U, I)(USERS)
    of_users, of_items = cosine(x) @ x, x @ cosine(x.t())
    expected = of_users if make is user_cosine else of_items
    assert_close(score.double(), expected, rtol=1e-5, atol=1e-6)
    assert not score[-1].any() and not score[:, -1].any()


@pytest.mark.parametrize('reg_weight', [1e-3, 0.5, 50.0])
def test_ease(interactions, reg_weight):
    edge_index, x = interactions
    score = ease(edge_index, U, I, reg_weight)(USERS)
    p = (x.t() @ x + reg_weight * torch.eye(I).double()).inverse()
    weight = (-p / p.diagonal()).fill_diagonal_(0.0)
    assert_close(score.double(), x @ weight, rtol=1e-4, atol=1e-5)


def test_feature_cosine(interactions):
    edge_index, x = interactions
    features = torch.randn(I, 4)
    features[4], features[:, 3] = 0.0, 7.0
    features[4, 3] = 0.0  # An item without features, and a constant channel.
    score = feature_cosine(edge_index, features, U)(USERS)
    there = features.any(dim=1)
    z = features.double()[:, :3]
    z = (z - z[there].mean(0)) / z[there].std(0, correction=0)
    z = normalize(z * there.view(-1, 1), dim=1)
    expected = normalize(x @ z, dim=1) @ z.t()
    assert_close(score.double(), expected, rtol=1e-4, atol=1e-5)
    assert not score[-1].any() and not score[:, 4].any()
    # Neither scale nor shift of features matters.
    shift = torch.tensor([1.0, -2, 80, 0])
    features[there] = 1000 * features[there] + shift
    changed = feature_cosine(edge_index, features, U)(USERS)
    assert_close(changed, score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('make', FLOORS)
def test_no_interactions_at_all(make):
    score = make(torch.empty(2, 0).long(), 3, 4)(torch.arange(3))
    assert score.isfinite().all()
    assert score.equal(score[:1, :1].expand(3, 4))


@pytest.mark.parametrize('make', FLOORS)
def test_users_in_any_order(make, interactions):
    r"""The scores of a user do not depend on those of others."""
    scorer, users = make(interactions[0], U, I), torch.tensor([11, 3, 0, 3])
    assert_close(scorer(users), scorer(USERS)[users])
