import math
import sys

import pytest
import torch

from diffmm_geo.evaluation import evaluate, evaluate_cold, generation_metrics
from tests.wrong_values import wrong_values

MODULE = sys.modules['diffmm_geo.evaluation']
NONE = torch.empty(2, 0, dtype=torch.long)


def reference(score, edge_label_index, exclude, k):
    relevant, excluded = {}, set(zip(*exclude.tolist()))
    for user, item in zip(*edge_label_index.tolist()):
        relevant.setdefault(user, set()).add(item)
    names = ['recall', 'precision', 'ndcg', 'hit_ratio', 'map', 'mrr']
    total = dict.fromkeys(names, 0.0)
    for user, items in relevant.items():
        ranking = [i for i in range(score.size(1)) if (user, i) not in excluded]
        ranking.sort(key=lambda i: -float(score[user, i]))
        hits = [i in items for i in ranking[:k]]
        best = min(k, len(items))
        positions = [n for n, hit in enumerate(hits) if hit]
        total['recall'] += sum(hits) / len(items)
        total['precision'] += sum(hits) / k
        total['hit_ratio'] += float(any(hits))
        ideal = sum(1 / math.log2(n + 2) for n in range(best))
        total['ndcg'] += sum(1 / math.log2(n + 2) for n in positions) / ideal
        total['map'] += (
            sum((m + 1) / (n + 1) for m, n in enumerate(positions)) / best
        )
        total['mrr'] += 1 / (positions[0] + 1) if positions else 0.0
    return {f'{name}@{k}': v / len(relevant) for name, v in total.items()}


def random_case(num_users=25, num_items=12):
    user_emb, item_emb = torch.randn(num_users, 4), torch.randn(num_items, 4)
    pairs = torch.randperm((num_users - 2) * num_items)
    edges = torch.stack([pairs // num_items, pairs % num_items])
    return user_emb, item_emb, edges[:, :60], edges[:, 60:160]


@pytest.mark.parametrize('k', [1, 3, 12])
@pytest.mark.parametrize('height', [1, 7, 4096])
def test_agrees_with_a_loop(monkeypatch, k, height):
    monkeypatch.setattr(MODULE, 'block_height', lambda *_: height)
    user_emb, item_emb, label, exclude = random_case()
    score = user_emb @ item_emb.t()
    for excluded in (exclude, NONE):
        out = evaluate(user_emb, item_emb, label, excluded, k)
        expected = reference(score, label, excluded, k)
        assert out == pytest.approx(expected, rel=1e-5)
        # The scores of a function of users.
        found = evaluate(score.__getitem__, label, excluded, k)
        assert found == pytest.approx(out, rel=1e-12)
    assert out == evaluate(user_emb, item_emb, label, k=k)
    found = evaluate(k=k, edge_label_index=label, scorer=score.__getitem__)
    assert found == pytest.approx(out, rel=1e-12)


def test_function_is_asked_for_few_users_at_a_time_and_keeps_its_scores(
    monkeypatch,
):
    monkeypatch.setattr(MODULE, 'block_height', lambda *_: 4)
    _, _, label, exclude = random_case()
    table, asked = torch.randn(1, 12), []
    before = table.clone()

    def scorer(user):
        asked.append(user.numel())
        # A view, which excluding items must not write to.
        return table.expand(user.numel(), -1)

    evaluate(scorer, label, exclude, 5)
    assert max(asked) == 4 and table.equal(before)


def test_users_of_any_number():
    r"""Neither time nor memory depends on the numbers of users."""
    _, _, label, exclude = random_case()
    table, far = torch.randn(25, 12), torch.tensor([[2**62], [0]])
    out = evaluate(lambda u: table[u - 2**62], label + far, exclude + far, 5)
    assert out == evaluate(lambda u: table[u], label, exclude, 5)


@wrong_values(
    scorer=[
        *[None, torch.randn(25, 12), lambda user: None],
        lambda user: torch.zeros(3, 12),
        lambda user: torch.zeros(user.numel(), 0),
        lambda user: torch.zeros(user.numel(), 11 + user.numel()),
        lambda user: torch.zeros(user.numel(), 12).long(),
        lambda user: torch.full((user.numel(), 12), math.nan),
    ],
    k=[13, 0, [], [5, 13], [0], 'ab'],
    edge_label_index=[torch.tensor([[-1], [0]]), torch.tensor([[0], [12]])],
    exclude_edge_index=[torch.tensor([[0], [-1]]), torch.tensor([[0], [12]])],
)
def test_bad_input_with_a_function(name, value):
    _, _, label, exclude = random_case()
    args = {
        'scorer': lambda user: torch.zeros(user.numel(), 12),
        'edge_label_index': label,
        'exclude_edge_index': exclude,
        'k': 5,
    }
    with pytest.raises(ValueError, match=f"'{name}'"):
        evaluate(**{**args, name: value})


@wrong_values(
    user_emb=[torch.full((25, 4), math.nan)],
    item_emb=[torch.full((12, 4), math.inf), torch.randn(12, 3)],
    edge_label_index=[torch.tensor([[25], [0]]), NONE],
)
def test_bad_input(name, value):
    names = ['user_emb', 'item_emb', 'edge_label_index', 'exclude_edge_index']
    with pytest.raises(ValueError, match=f"'{name}'"):
        evaluate(**{**dict(zip(names, random_case())), name: value, 'k': 5})


@pytest.mark.parametrize('k', [[5, 1, 12], (5, 1, 12)])
def test_several_lengths_are_ranked_once(k):
    user_emb, item_emb, label, exclude = random_case()
    expected, ranked = {}, []
    for length in k:
        expected |= evaluate(user_emb, item_emb, label, exclude, length)

    def scorer(user):
        ranked.extend(user.tolist())
        return user_emb[user] @ item_emb.t()

    out = evaluate(scorer, label, exclude, k)
    assert out == pytest.approx(expected, rel=1e-12)
    assert list(out) == list(expected)
    # The first user tells the number of items.
    assert sorted(ranked[1:]) == label[0].unique().tolist()


def test_duplicates_count_once():
    user_emb, item_emb, label, exclude = random_case()
    out = evaluate(user_emb, item_emb, label, exclude, 5)
    twice = torch.cat([label, label[:, :20]], dim=1)
    assert evaluate(user_emb, item_emb, twice, exclude, 5) == out
    twice = torch.cat([exclude, exclude], dim=1)
    assert evaluate(user_emb, item_emb, label, twice, 5) == out


def test_user_with_everything_excluded():
    user_emb, item_emb = torch.tensor([[3.0, 2.0, 1.0]] * 2), torch.eye(3)
    label = torch.tensor([[0, 1], [0, 0]])
    exclude = torch.tensor([[1, 1, 1], [0, 1, 2]])
    out = evaluate(user_emb, item_emb, label, exclude, 2)
    assert out.pop('precision@2') == 0.25
    assert set(out.values()) == {0.5}


def test_held_out_items_that_are_excluded():
    user_emb, item_emb, label, exclude = random_case()
    some = torch.cat([exclude, label[:, :7]], dim=1)
    with pytest.warns(UserWarning, match="^7 of 60 .*'edge_label_index'"):
        evaluate(user_emb, item_emb, label, some, 5)
    every = torch.cat([exclude, label], dim=1)
    with pytest.raises(ValueError, match="'edge_label_index'.*all of"):
        evaluate(user_emb, item_emb, label, every, 5)


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.half])
@pytest.mark.parametrize('num_items', [50, 20_000])
def test_constant_scores(num_items, dtype):
    r"""Ranks do not depend on the number of an item."""
    user_emb = torch.randn(30, 64, dtype=dtype)
    item_emb = torch.randn(1, 64, dtype=dtype).repeat(num_items, 1)
    for first in (0, num_items - 2):
        label = torch.cartesian_prod(
            torch.arange(30), torch.arange(first, first + 2)
        ).t()
        out = evaluate(user_emb, item_emb, label)
        assert out['recall@20'] == pytest.approx(20 / num_items)
        assert out['precision@20'] == pytest.approx(2 / num_items)
        missed = (num_items - 20) * (num_items - 21)
        missed /= num_items * (num_items - 1)
        assert out['hit_ratio@20'] == pytest.approx(1 - missed)


@pytest.fixture
def cold_case():
    user_emb, item_emb, label, _ = random_case()
    # Items 9, 10 and 11 have no observed interaction.
    pairs = torch.randperm(25 * 9)[:60]
    observed = torch.stack([pairs // 9, pairs % 9])
    held_out = label[:, label[1] >= 9]
    assert 0 < held_out.size(1) < label.size(1)
    return user_emb, item_emb, label, observed, held_out


def test_cold_items(cold_case):
    user_emb, item_emb, label, observed, held_out = cold_case
    score, before = user_emb @ item_emb.t(), label.clone()
    among = torch.stack([held_out[0], held_out[1] - 9])
    for k, candidates, expected in (
        (4, 'all', reference(score, held_out, observed, 4)),
        (2, 'all', reference(score, held_out, observed, 2)),
        (2, 'cold', reference(score[:, 9:], among, NONE, 2)),
    ):
        out = evaluate_cold(user_emb, item_emb, label, observed, k, candidates)
        assert out == pytest.approx(expected, rel=1e-5)
    several = evaluate_cold(user_emb, item_emb, label, observed, [1, 2], 'cold')
    assert out.items() <= several.items() and len(several) == 12
    assert label.equal(before)


def test_bad_cold_input(cold_case):
    user_emb, item_emb, label, observed, _ = cold_case
    for name, args in {
        'candidates': (label, observed, 2, 'warm'),
        'edge_label_index': (label[:, label[1] < 9], observed),
        'edge_index': (label, observed + 20),
        'k': (label, observed, 4, 'cold'),
    }.items():
        with pytest.raises(ValueError, match=f"'{name}'"):
            evaluate_cold(user_emb, item_emb, *args)


def test_generation_metrics():
    made, seen, held_out = (
        torch.stack([torch.randint(9, (n,)), torch.randint(7, (n,))])
        for n in (40, 25, 15)
    )
    of = [set(zip(*x.tolist())) for x in (made, seen, held_out)]
    users = {u for u, _ in of[2]}
    shares = [
        sum((u, i) in of[0] for v, i in of[2] if v == u)
        / sum(v == u for v, _ in of[2])
        for u in users
    ]
    out = generation_metrics(made, seen, held_out, 7)
    assert out == pytest.approx(
        {
            'recall': sum(shares) / len(users),
            'observed': len(of[0] & of[1]) / len(of[0]),
            'distinct_items': len({i for _, i in of[0]}),
        }
    )
    assert generation_metrics(*[NONE] * 3, 4) == dict.fromkeys(out, 0.0)
