import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate
from diffmm_geo.scorers import FusedScorer, Scorer

U, I = 12, 10
USERS = torch.arange(U)
MODULE = sys.modules['diffmm_geo.scorers.fused_scorer']


class Given(Scorer):
    r"""Given scores, and the number of users asked for."""

    def __init__(self, table):
        super().__init__(*table.size(), table.device)
        self.table, self.num_asked = table, 0

    def score(self, user_index):
        self.num_asked += user_index.numel()
        return self.table[user_index]


def fuse(tables, weights):
    names = 'abcdef'[: len(tables)]
    scorers = {n: Given(t) for n, t in zip(names, tables)}
    return FusedScorer(scorers, dict(zip(names, weights)))(USERS)


def test_sum_of_standardized_scores():
    a, b = torch.randn(U, I), 1e3 * torch.rand(U, I) + 7
    z = [
        (t - t.mean(1, keepdim=True)) / t.std(1, correction=0, keepdim=True)
        for t in (a.double(), b.double())
    ]
    out = fuse([a, b], [1.5, -0.5])
    expected = 1.5 * z[0] - 0.5 * z[1]
    assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(
    st.floats(1e-20, 1e20),
    st.floats(-3, 3),
    st.integers(0, 2**16),
)
def test_affine_changes_do_not_matter(scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, U, I, generator=generator)
    # Each user has their own change.
    factor = scale * torch.rand(U, 1, generator=generator).add(0.1)
    out = fuse([factor * (a + shift), b], [1.0, 0.3])
    assert_close(out, fuse([a, b], [1.0, 0.3]), rtol=1e-3, atol=1e-3)


def test_large_shifts_cost_no_precision():
    a = torch.randint(100, (U, I)) / 1024
    shifted = a + 1024  # Exact.
    assert (shifted - 1024).equal(a)
    assert_close(fuse([shifted], [1.0]), fuse([a], [1.0]), rtol=0, atol=1e-5)


def test_weight_zero_is_left_out():
    tables = torch.randn(3, U, I)
    scorers = {n: Given(t) for n, t in zip('abc', tables)}
    weights = {'a': 1.0, 'b': 0.0, 'c': 0.5}
    out = FusedScorer(scorers, weights)(USERS)
    assert out.equal(fuse([tables[0], tables[2]], [1.0, 0.5]))
    assert scorers['b'].num_asked == 0 and scorers['a'].num_asked == U


@pytest.mark.parametrize('value', [0.0, 0.1, 1e30, -3.3])
def test_constant_scores_add_nothing(value):
    a = torch.randn(U, I)
    constant = torch.full((U, I), value)
    assert fuse([a, constant], [1.0, 9.0]).equal(fuse([a], [1.0]))
    # In some rows only.
    constant[3, 0] += 1e30
    other = fuse([a, constant], [1.0, 9.0]) != fuse([a], [1.0])
    assert other[3].all() and not other[:3].any() and not other[4:].any()


def test_wrong_arguments():
    a, b = Given(torch.zeros(U, I)), Given(torch.zeros(U, I + 1))
    for scorers, weights, name in (
        ({}, {}, "'scorers'"),
        ([a], [1.0], "'scorers'"),
        ({'a': 3}, {'a': 1.0}, r"scorers\['a'\]"),
        ({'a': a, 'b': b}, {'a': 1.0, 'b': 1.0}, r"scorers\['b'\]"),
        ({'a': a}, {}, "'weights'"),
        ({'a': a}, {'a': 1.0, 'b': 1.0}, "'weights'"),
        ({'a': a}, {'a': float('nan')}, 'weights'),
        ({'a': a}, {'a': '1'}, 'weights'),
        ({'a': a}, {'a': 0.0}, "'weights'"),
    ):
        with pytest.raises(ValueError, match=name):
            FusedScorer(scorers, weights)


@pytest.fixture
def case():
    r"""Held-out items that two scorers find together. The third is noise."""
    users, items = 60, 80
    generator = torch.Generator().manual_seed(5)
    held_out = torch.stack(
        [torch.arange(120) % users, torch.arange(120) * 7 % items]
    )
    truth = torch.zeros(users, items)
    truth[held_out[0], held_out[1]] = 1.0
    noise = torch.randn(3, users, items, generator=generator)
    scorers = {
        'noise': Given(noise[0]),
        'weak': Given(1.4 * truth + noise[1]),
        'strong': Given(100 * (2.0 * truth + noise[2])),
    }
    observed = torch.stack(
        [torch.arange(120) % users, (torch.arange(120) * 7 + 3) % items]
    )
    return scorers, held_out, observed


def recall(scorer, held_out, observed):
    return evaluate(scorer, held_out, observed, 5)['recall@5']


def test_fits_weights(case):
    scorers, held_out, observed = case
    fused = FusedScorer.fit_weights(scorers, held_out, observed)
    assert list(fused.weights) == list(scorers)
    # The strong one is twice as far above its noise as the weak one.
    assert fused.weights['strong'] > fused.weights['weak'] > 0
    assert abs(fused.weights['noise']) < 0.3 * fused.weights['weak']
    best = recall(fused, held_out, observed)
    assert best > recall(scorers['strong'], held_out, observed) + 0.05
    again = FusedScorer.fit_weights(scorers, held_out, observed)
    assert again.weights == fused.weights


def objective(weights, scorers, held_out, observed, reg_weight=3.0):
    r"""The formula of the documentation, with all items as candidates."""
    z = {n: MODULE.standardize(s.table).double() for n, s in scorers.items()}
    total = sum(weights[n] * x for n, x in z.items())
    left = torch.ones_like(total, dtype=torch.bool)
    left[observed[0], observed[1]] = False
    out = 0.0
    for user in held_out[0].unique().tolist():
        items = held_out[1, held_out[0] == user].unique()
        log_p = total[user].masked_fill(~left[user], -1e9).log_softmax(0)
        out -= float(log_p[items].mean())
    for n, x in z.items():
        sigma = float(x[left].std(correction=0))
        out += reg_weight * (weights[n] * sigma) ** 2
    return out


def test_weights_are_at_the_minimum_of_the_documented_objective(case):
    scorers, held_out, observed = case
    fused = FusedScorer.fit_weights(scorers, held_out, observed)
    args = scorers, held_out, observed
    best = objective(fused.weights, *args)
    for name in scorers:
        for change in (-0.03, 0.03):
            weights = dict(fused.weights)
            weights[name] += change
            assert objective(weights, *args) > best


def test_more_regularization_gives_smaller_weights(case):
    scorers, held_out, observed = case
    norms = [
        FusedScorer.fit_weights(
            scorers, held_out, observed, reg_weight=reg_weight
        ).weights['strong']
        for reg_weight in (0.1, 10.0, 1000.0)
    ]
    assert norms[0] > norms[1] > norms[2] > 0


def test_each_scorer_is_called_once(case):
    scorers, held_out, observed = case
    noise = scorers.pop('noise')
    FusedScorer.fit_weights(scorers, held_out[:, :50], observed, noise)
    assert [s.num_asked for s in (noise, *scorers.values())] == [50] * 3


def test_candidates_are_the_best_of_the_retriever(case):
    scorers, held_out, observed = case
    users, items = scorers['strong'].size
    # Only two items can be candidates; a user learns from them alone.
    table = torch.zeros(users, items)
    table[:, :2] = 1.0
    first_two = held_out[:, held_out[1] < 2]
    kwargs = {'retriever': Given(table), 'num_candidates': 2}
    args = observed[:, :0], Given(table), 2
    out = FusedScorer.fit_weights(scorers, held_out, *args)
    same = FusedScorer.fit_weights(scorers, first_two, *args)
    assert first_two.size(1) == 4 and out.weights == same.weights
    beyond = held_out[:, held_out[1] >= 2]
    with pytest.raises(ValueError, match='one of the 2 candidates'):
        FusedScorer.fit_weights(scorers, beyond, **kwargs)


@pytest.mark.parametrize('height', [1, 7, 512])
def test_blocks_do_not_matter(monkeypatch, case, height):
    scorers, held_out, observed = case
    expected = FusedScorer.fit_weights(scorers, held_out, observed)
    monkeypatch.setattr(MODULE, 'HEIGHT', height)
    fused = FusedScorer.fit_weights(scorers, held_out, observed)
    assert fused.weights == pytest.approx(expected.weights, rel=1e-6)


def test_samples_of_users(case):
    scorers, held_out, observed = case
    args = held_out, observed, Given(torch.randn(60, 80))
    FusedScorer.fit_weights(scorers, *args, max_users=9)
    assert [s.num_asked for s in scorers.values()] == [9] * 3


def test_what_does_not_help_has_no_weight(case):
    scorers, held_out, observed = case
    strong = scorers['strong']
    users, items = strong.size
    same = {'a': strong, 'b': strong, 'c': Given(torch.ones(users, items))}
    weights = FusedScorer.fit_weights(same, held_out, observed).weights
    assert weights['a'] == pytest.approx(weights['b']) and weights['c'] == 0
    with pytest.raises(ValueError, match='weight other than zero'):
        FusedScorer.fit_weights({'c': same['c']}, held_out, observed)


def test_excluded_items_are_no_candidates():
    observed = torch.tensor([[0, 1], [0, 1]])
    held_out = torch.tensor([[0, 1], [2, 3]])
    # One prefers an observed item to the held-out one, the other a third.
    scorers = {
        'worse': Given(torch.tensor([[0.0, 2, 1, 0], [2.0, 0, 0, 1]])),
        'better': Given(torch.tensor([[2.0, 0, 1, 0], [0.0, 2, 0, 1]])),
    }
    weights = FusedScorer.fit_weights(scorers, held_out, observed).weights
    assert weights['better'] > 0.2 > weights['worse']
    weights = FusedScorer.fit_weights(scorers, held_out).weights
    assert weights['worse'] == pytest.approx(weights['better'])


def test_wrong_fit(case):
    scorers, held_out, observed = case
    good = {
        'scorers': scorers,
        'edge_label_index': held_out,
        'exclude_edge_index': observed,
    }
    for name, value in (
        ('scorers', {}),
        ('edge_label_index', held_out[:, :0]),
        ('edge_label_index', held_out + 70),
        ('exclude_edge_index', observed + 70),
        ('retriever', Given(torch.zeros(60, 81))),
        ('num_candidates', 0),
        ('reg_weight', 0.0),
        ('max_users', 0),
    ):
        with pytest.raises(ValueError, match=name):
            FusedScorer.fit_weights(**{**good, name: value})
    assert all(s.num_asked == 0 for s in scorers.values())
