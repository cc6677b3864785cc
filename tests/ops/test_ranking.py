import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import metrics

from diffmm_geo.ops.ranking import METRICS, expected_metrics, product_scorer
from diffmm_geo.ops.ranking.product_scorer import equal_rows
from diffmm_geo.sparse import CSR

NAMES = ['Recall', 'Precision', 'NDCG', 'HitRatio', 'MAP', 'MRR']
PYG = {
    name: getattr(metrics, f'LinkPred{cls}')
    for name, cls in zip(METRICS, NAMES)
}


def mean_over_orders(score, labels, excluded, ks):
    r"""PyG's metrics of one user, over all orders of items that respect their
    scores.
    """
    left = [i for i in range(len(score)) if i not in excluded]
    values = sorted({score[i] for i in left}, reverse=True)
    groups = [[i for i in left if score[i] == v] for v in values]
    total, count = {}, 0
    label = torch.zeros(len(labels), dtype=torch.long), torch.tensor(labels)
    for orders in itertools.product(
        *(itertools.permutations(group) for group in groups)
    ):
        ranking = [i for order in orders for i in order]
        ranking += [len(score)] * len(score)  # An item that nobody has.
        count += 1
        for k in ks:
            for name, cls in PYG.items():
                metric = cls(k)
                metric.update(torch.tensor([ranking[:k]]), label)
                key = f'{name}@{k}'
                total[key] = total.get(key, 0.0) + float(metric.compute())
    return {key: value / count for key, value in total.items()}


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.sets(st.integers(0, 4), min_size=1),
    st.sets(st.integers(0, 4), max_size=3),
    st.integers(1, 5),
)
def test_metrics_are_the_mean_over_orders(score, labels, excluded, k):
    labels, excluded, ks = sorted(labels), sorted(excluded), sorted({1, 3, k})
    row = torch.tensor([score], dtype=torch.float)
    row[0, excluded] = -torch.inf
    label = CSR(torch.tensor([0, len(labels)]), torch.tensor(labels), (1, 5))
    out = expected_metrics(row, label, ks)
    expected = mean_over_orders(score, labels, excluded, ks)
    assert {k: float(v) for k, v in out.items()} == pytest.approx(
        expected, abs=1e-5
    )


def test_colliding_keys(monkeypatch):
    x = torch.tensor([[1.0], [2.0], [1.0]])
    monkeypatch.setattr(
        torch, 'randint', lambda *_, **__: torch.zeros(1).long()
    )
    group, first = equal_rows(x)
    assert group.tolist() == first.tolist() == [0, 1, 2]


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.half])
def test_equal_items_get_equal_scores(dtype):
    r"""The place of an item must not show in its score."""
    place = torch.randint(40, (1003,))
    item = torch.randn(40, 64, dtype=dtype)[place]
    user, users = torch.randn(50, 64, dtype=dtype), torch.arange(50)
    score = product_scorer(user, item)(users)
    first = [int((place == n).nonzero()[0]) for n in place]
    assert score.equal(score[:, first])
    torch.testing.assert_close(score, user @ item.t(), rtol=1e-2, atol=1e-1)
