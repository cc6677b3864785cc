import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.sparse import CSR
from examples.ensemble.fusion import standardize, two_stages, weighted_sum
from examples.ensemble.weights import fit_weights

U, I = 12, 10
USERS = torch.arange(U)


def given(table):
    return lambda users: table[users]


def fuse(tables, weights):
    names = 'abcdef'[: len(tables)]
    scorers = {n: given(t) for n, t in zip(names, tables)}
    return weighted_sum(scorers, dict(zip(names, weights)))(USERS)


@pytest.mark.parametrize('scale', [1e-20, 1.0, 1e20])
def test_sum_of_standardized_scores(scale):
    a, b = torch.randn(U, I), 1e3 * torch.rand(U, I) + 7
    z = [
        (t - t.mean(1, keepdim=True)) / t.std(1, correction=0, keepdim=True)
        for t in (a.double(), b.double())
    ]
    out = fuse([scale * a, b], [1.5, -0.5])
    expected = 1.5 * z[0] - 0.5 * z[1]
    assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


def test_large_shifts_cost_no_precision():
    a = torch.randint(100, (U, I)) / 1024
    shifted = a + 1024  # Exact.
    assert_close(standardize(shifted), standardize(a), rtol=0, atol=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.1, 1e30, -3.3])
def test_constant_scores_add_nothing(value):
    a = torch.randn(U, I)
    constant = torch.full((U, I), value)
    assert fuse([a, constant], [1.0, 9.0]).equal(fuse([a], [1.0]))


def lists(edge_index, size=(U, I)):
    return CSR.from_edge_index(edge_index, size, coalesce=True)


def two_stage_reference(first, second, observed, k):
    r"""The ranking of each user, without observed items."""
    out = []
    for user in range(U):
        left = [i for i in range(I) if (user, i) not in observed]
        left.sort(key=lambda i: -float(first[user, i]))
        best = sorted(left[:k], key=lambda i: -float(second[user, i]))
        out.append(best + left[k:])
    return out


@pytest.mark.parametrize('k', [1, 3, 8, 100])
@pytest.mark.parametrize('scale', [1.0, 1e6])
def test_candidates_come_first_in_the_order_of_the_ranker(k, scale):
    first, second = scale * torch.randn(2, U, I)
    edge_index = torch.tensor([[0, 0, 1, 3], [1, 2, 7, 0]])
    # A user without items left.
    rest = torch.stack([torch.full((I,), 4), torch.arange(I)])
    edge_index = torch.cat([edge_index, rest], dim=1)
    scorer = two_stages(given(first), given(second), lists(edge_index), k)
    score = scorer(USERS)
    assert score.isfinite().all()
    observed = set(zip(*edge_index.tolist()))
    score[edge_index[0], edge_index[1]] = float('-inf')
    order = score.sort(dim=1, descending=True).indices.tolist()
    expected = two_stage_reference(first, second, observed, k)
    assert [row[: len(e)] for row, e in zip(order, expected)] == expected


@pytest.fixture
def case():
    r"""Held-out items that two scorers find together. The third is noise."""
    users, items = 60, 80
    generator = torch.Generator().manual_seed(5)
    pairs = torch.arange(120)
    held_out = torch.stack([pairs % users, pairs * 7 % items])
    truth = torch.zeros(users, items)
    truth[held_out[0], held_out[1]] = 1.0
    a, b, c = torch.randn(3, users, items, generator=generator)
    tables = {
        'noise': a,
        'weak': 1.4 * truth + b,
        'strong': 2e2 * truth + 1e2 * c,
    }
    observed = torch.stack([pairs % users, (pairs * 7 + 3) % items])
    return tables, held_out, observed


def fit(tables, held_out, observed, retriever=None, **kwargs):
    size = next(iter(tables.values())).size()
    scorers = {name: given(table) for name, table in tables.items()}
    if retriever is None:
        retriever = weighted_sum(scorers, dict.fromkeys(scorers, 1.0))
    held_out, observed = lists(held_out, size), lists(observed, size)
    return fit_weights(scorers, held_out, observed, retriever, **kwargs)


def objective(weights, tables, held_out, observed, reg_weight):
    r"""The formula of the documentation, with all items as candidates."""
    z = {n: standardize(table).double() for n, table in tables.items()}
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


@pytest.mark.parametrize('reg_weight', [0.1, 3.0, 1000.0])
def test_weights_are_at_the_minimum_of_the_objective(case, reg_weight):
    weights = fit(*case, reg_weight=reg_weight)
    best = objective(weights, *case, reg_weight)
    assert fit(*case, reg_weight=reg_weight) == weights
    for name in weights:
        for change in (-0.03, 0.03):
            other = {**weights, name: weights[name] + change}
            assert objective(other, *case, reg_weight) > best


def test_candidates_are_the_best_of_the_retriever(case):
    tables, held_out, _ = case
    # Only two items can be candidates; a user learns from them alone.
    table = torch.zeros(60, 80)
    table[:, :2] = 1.0
    first_two = held_out[:, held_out[1] < 2]
    args = held_out[:, :0], given(table)
    out = fit(tables, held_out, *args, num_candidates=2)
    same = fit(tables, first_two, *args, num_candidates=2)
    assert first_two.size(1) == 4 and out == same
    beyond = held_out[:, held_out[1] >= 2]
    with pytest.raises(ValueError, match='one of the 2 candidates'):
        fit(tables, beyond, *args, num_candidates=2)


def test_samples_of_users(case):
    asked = []

    def retriever(users):
        asked.extend(users.tolist())
        return case[0]['strong'][users]

    fit(*case, retriever=retriever, max_users=9)
    assert len(set(asked)) == len(asked) == 9
