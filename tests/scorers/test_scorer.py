import sys
import warnings

import pytest
import torch

from diffmm_geo.scorers import (
    EASE,
    EmbeddingScorer,
    FusedScorer,
    ItemCosine,
    Popularity,
    RandomWalk,
    Scorer,
    TwoStageScorer,
    UserCosine,
)
from tests.wrong_values import wrong_values

U, I = 12, 10
FROM_INTERACTIONS = (EASE, ItemCosine, Popularity, RandomWalk, UserCosine)
MODULE = sys.modules['diffmm_geo.scorers.scorer']


class Given(Scorer):
    r"""Given scores, by user."""

    def __init__(self, table):
        super().__init__(*table.size(), table.device)
        self.table, self.calls = table, []

    def score(self, user_index):
        self.calls.append(user_index.tolist())
        return self.table[user_index]


def reference(score, k, exclude):
    r"""Sorts the items that are left."""
    out = []
    for user, row in enumerate(score.tolist()):
        left = [i for i in range(len(row)) if (user, i) not in exclude]
        left.sort(key=lambda i: -row[i])
        out.append((left + [-1] * k)[:k])
    return torch.tensor(out)


@pytest.mark.parametrize('block', [1, 25, 2**22])
def test_recommends_the_highest(monkeypatch, block, interactions):
    monkeypatch.setattr(MODULE, 'BLOCK_SIZE', block)
    edge_index, _ = interactions
    # A user without items left.
    rest = torch.stack([torch.full((I,), 5), torch.arange(I)])
    edge_index = torch.cat([edge_index, rest], dim=1)
    table = torch.randn(U, I)
    scorer = Given(table)
    exclude = set(zip(*edge_index.tolist()))
    for k in (1, 4, I):
        out = scorer.recommend(None, k, edge_index)
        assert out.equal(reference(table, k, exclude))
        assert (out[5] == -1).all()
        assert scorer.recommend(k=k).equal(reference(table, k, set()))
        users = torch.tensor([7, 0, 7, 5], dtype=torch.int)
        found = scorer.recommend(users, k, edge_index)
        assert found.equal(out[users.long()])
    assert scorer(torch.tensor([3, 3])).equal(table[[3, 3]])
    assert scorer.recommend(torch.empty(0).long(), 2).size() == (0, 2)
    assert max(map(len, scorer.calls)) == min(U, max(1, block // I))


@pytest.mark.parametrize('make', FROM_INTERACTIONS)
def test_blocks_do_not_matter(monkeypatch, make, interactions):
    edge_index, _ = interactions
    users = torch.tensor([11, 3, 0, 3])
    scorer = make(edge_index, U, I)
    whole = scorer(users)
    assert whole.dtype == torch.float and whole.isfinite().all()
    monkeypatch.setattr(MODULE, 'BLOCK_SIZE', 1)
    torch.testing.assert_close(make(edge_index, U, I)(users), whole)
    assert scorer.size == (U, I) and scorer.device == edge_index.device
    assert str(scorer).startswith(f'{make.__name__}({U}, {I}')


@pytest.mark.parametrize('make', FROM_INTERACTIONS)
def test_no_interactions_at_all(make):
    scorer = make(torch.empty(2, 0).long(), 3, 4)
    score = scorer(torch.arange(3))
    assert score.isfinite().all()
    assert score.equal(score[:1, :1].expand(3, 4))


@pytest.mark.parametrize('make', FROM_INTERACTIONS)
@wrong_values(
    edge_index=[
        torch.tensor([[U], [0]]),
        torch.tensor([[0], [I]]),
        torch.zeros(3, 2).long(),
        torch.zeros(2, 2),
    ],
    num_users=[0, 2.5],
    num_items=[0, None],
)
def test_wrong_interactions(make, interactions, name, value):
    args = {'edge_index': interactions[0], 'num_users': U, 'num_items': I}
    with pytest.raises(ValueError, match=f"'{name}'"):
        make(**{**args, name: value})


@wrong_values(
    user_index=[torch.tensor([U]), torch.tensor([[0]]), torch.zeros(2), [0]],
    k=[0, I + 1],
    exclude_edge_index=[torch.tensor([[U], [0]]), torch.zeros(2).long()],
)
def test_wrong_query(name, value):
    scorer = Given(torch.zeros(U, I))
    with pytest.raises(ValueError, match=f"'{name}'"):
        scorer.recommend(**{'k': 3, name: value})
    if name == 'user_index':
        with pytest.raises(ValueError, match=f"'{name}'"):
            scorer(value)
    assert scorer.calls == []


def test_embeddings():
    user_emb, item_emb = torch.randn(U, 4), torch.randn(I, 4)
    bias, users = torch.randn(I), torch.tensor([4, 1, 4])
    score = user_emb[users] @ item_emb.t()
    plain = EmbeddingScorer(user_emb.requires_grad_(), item_emb)
    torch.testing.assert_close(plain(users), score)
    biased = EmbeddingScorer(user_emb, item_emb, bias)
    torch.testing.assert_close(biased(users), score + bias)
    half = EmbeddingScorer(user_emb.bfloat16(), item_emb.bfloat16(), bias)
    assert half(users).dtype == torch.float
    with torch.autocast('cpu', torch.bfloat16):
        assert plain(users).equal(EmbeddingScorer(user_emb, item_emb)(users))


@wrong_values(
    user_emb=[torch.full((U, 4), float('nan')), torch.zeros(U, 4).long()],
    item_emb=[torch.zeros(I, 5), torch.zeros(0, 4), torch.zeros(I, 4).double()],
    bias=[torch.zeros(I + 1), torch.full((I,), float('inf'))],
)
def test_wrong_embeddings(name, value):
    args = {'user_emb': torch.zeros(U, 4), 'item_emb': torch.zeros(I, 4)}
    with pytest.raises(ValueError, match=f"'{name}'"):
        EmbeddingScorer(**{**args, name: value})


def test_warns_of_users_without_interactions(interactions):
    edge_index, _ = interactions  # The last user has none.
    known, last = edge_index[0].unique(), torch.tensor([U - 1])
    scorers = {
        make.__name__: make(edge_index, U, I) for make in FROM_INTERACTIONS
    }
    score = torch.randn(U, 4), torch.randn(I, 4)
    scorers['embeddings'] = EmbeddingScorer(*score)
    for name in ('EASE', 'embeddings'):
        members = {name: scorers[name], 'other': Popularity(edge_index, U, I)}
        weights = {name: 1.0, 'other': 0.0}
        scorers[f'fused {name}'] = FusedScorer(members, weights)
    scorers['two stages'] = TwoStageScorer(
        scorers['Popularity'], scorers['embeddings'], edge_index, 3
    )
    for name, scorer in scorers.items():
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            scorer.recommend(known, 3, edge_index)
            if name in ('Popularity', 'RandomWalk'):
                found = scorer.recommend(last, I, edge_index)
                popular = scorers['Popularity'](last)
                assert popular[0, found[0]].equal(popular[0].sort(0, True)[0])
                continue
            if 'embeddings' in name or name == 'two stages':
                scorer.recommend(last, 3)  # Nothing is known of users.
                scorer.recommend(last, 3, edge_index[:, :0])
        with pytest.warns(UserWarning, match=f'of 1 of {U} users.*Popularity'):
            scorer.recommend(None, 3, edge_index)
    with pytest.warns(UserWarning, match='of 1 of 2 users'):
        scorers['EASE'].recommend(torch.tensor([int(known[0]), U - 1]), 3)


def test_scorers_may_hold_scorers(interactions):
    edge_index, _ = interactions
    inner = FusedScorer({'ease': EASE(edge_index, U, I)}, {'ease': 2.0})
    outer = FusedScorer({'inner': inner}, {'inner': 1.0})
    users = torch.arange(U)
    torch.testing.assert_close(2 * outer(users), inner(users))
