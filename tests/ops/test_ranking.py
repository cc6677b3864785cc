import itertools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

import diffmm_geo.ops.ranking  # noqa: F401
from diffmm_geo.ops.ranking import (
    METRICS,
    ItemRanker,
    expected_metrics,
    rank_scores,
)
from diffmm_geo.ops.ranking.equal_rows import equal_rows
from diffmm_geo.sparse import CSR

RANKER = sys.modules['diffmm_geo.ops.ranking.item_ranker']
PYG = dict(
    zip(
        METRICS,
        (
            LinkPredRecall,
            LinkPredPrecision,
            LinkPredNDCG,
            LinkPredHitRatio,
            LinkPredMAP,
            LinkPredMRR,
        ),
    )
)


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
    col = torch.tensor(labels)
    ranking = rank_scores(row, max(ks), torch.zeros_like(col), col)
    out = expected_metrics(ranking, ks)
    expected = mean_over_orders(score, labels, excluded, ks)
    assert {k: float(v) for k, v in out.items()} == pytest.approx(
        expected, abs=1e-5
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(0, 25),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 3),
    st.data(),
)
def test_blocks_do_not_matter(users, items, edges, block, width, levels, data):
    k = data.draw(st.integers(1, items))
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    query = torch.randint(-1, 2, (users, 2)).float()
    item = torch.randint(levels, (items, 2)).float()
    label, exclude = (
        torch.stack([torch.randint(n, (edges,)) for n in (users, items)])
        for _ in range(2)
    )
    label, exclude = (
        CSR.from_edge_index(x, (users, items), coalesce=True)
        for x in (label, exclude)
    )
    score = query @ item.t()
    score[exclude.row, exclude.col] = -torch.inf
    expected = rank_scores(score, k, label.row, label.col)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RANKER, 'BLOCK_SIZE', block)
        patch.setattr(RANKER, 'MAX_BLOCK_ITEMS', width)
        out = ItemRanker(item, k)(query, label, exclude)
    assert out.value.equal(expected.value)
    assert out.label_score.equal(expected.label_score)
    finite = expected.value[:, -1] > -torch.inf
    assert out.num_tied[finite].equal(expected.num_tied[finite])
    assert out.num_tied[finite].equal(
        (score == expected.value[:, -1:]).sum(dim=1)[finite]
    )


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.half])
def test_equal_items_get_equal_scores(dtype, monkeypatch):
    r"""The place of an item must not show in its score."""
    monkeypatch.setattr(RANKER, 'MAX_BLOCK_ITEMS', 300)
    item = torch.randn(40, 64, dtype=dtype)[torch.randint(40, (1003,))]
    query = torch.randn(50, 64, dtype=dtype)
    every = CSR.from_edge_index(
        torch.cartesian_prod(torch.arange(50), torch.arange(1003)).t(),
        (50, 1003),
    )
    out = ItemRanker(item, 20)(query, every)
    group, first = equal_rows(item)
    assert item[first][group].equal(item)
    assert first.numel() == item.unique(dim=0).size(0)
    score = out.label_score.view(50, 1003)
    assert score.equal(score[:, first][:, group])
    best = score.max(dim=1, keepdim=True).values
    assert out.value[:, :1].equal(best)
    assert torch.allclose(score, query @ item.t(), rtol=1e-2, atol=1e-1)


def test_colliding_keys(monkeypatch):
    item = torch.tensor([[1.0], [2.0], [1.0]])
    monkeypatch.setattr(
        torch, 'randint', lambda *_, **__: torch.zeros(1).long()
    )
    group, first = equal_rows(item)
    assert group.tolist() == first.tolist() == [0, 1, 2]
