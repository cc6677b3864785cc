import sys

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import concat_embeddings

U, I = 7, 9
MODULE = sys.modules['diffmm_geo.nn.models.concat_embeddings']


def pair(channels, scale=1.0):
    return scale * torch.randn(U, channels), torch.randn(I, channels)


def test_product_is_the_sum_of_standardized_scores():
    models = [pair(4), pair(3, 100.0), pair(5, 1e-3)]
    user_emb, item_emb = concat_embeddings(models)
    expected = torch.zeros(U, I)
    for user, item in models:
        score = user @ item.t()
        expected += score / score.std(dim=1, correction=0).mean()
    assert_close(user_emb @ item_emb.t(), expected)
    assert item_emb.equal(torch.cat([item for _, item in models], dim=1))


def test_a_model_without_opinion_adds_nothing():
    first = pair(4)
    zero = torch.zeros(U, 2), torch.zeros(I, 2)
    out, alone = concat_embeddings([first, zero]), concat_embeddings([first])
    assert_close(out[0] @ out[1].t(), alone[0] @ alone[1].t())


@pytest.mark.parametrize('users', [1, 3, 100])
def test_blocks_and_samples_of_users(monkeypatch, users):
    models = [(torch.ones(U, 1), torch.randn(I, 1)) for _ in range(2)]
    expected = concat_embeddings(models)
    monkeypatch.setattr(MODULE, 'NUM_USERS', users)
    monkeypatch.setattr(MODULE, 'BLOCK_SIZE', 1)
    # All users have the same scores here.
    assert_close(concat_embeddings(models), expected)


def test_wrong_arguments():
    good = pair(4)
    for value, name in (
        ([], "'embeddings'"),
        (good, r"'embeddings\[0\]'"),
        (3, "'embeddings'"),
        ([good, (torch.ones(U + 1, 2), torch.ones(I, 2))], r'\[1\]\[0\]'),
        ([good, (torch.ones(U, 2), torch.ones(I + 1, 2))], r'\[1\]\[1\]'),
        ([(torch.ones(U, 2), torch.ones(I, 3))], r'\[0\]\[1\]'),
        ([(torch.full((U, 2), float('nan')), torch.ones(I, 2))], r'\[0\]\[0\]'),
    ):
        with pytest.raises(ValueError, match=name):
            concat_embeddings(value)
