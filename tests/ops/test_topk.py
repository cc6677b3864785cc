import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_geo.ops import topk_items
from diffmm_geo.sparse import CSR

MODULE = sys.modules['diffmm_geo.ops.ranking.topk_items']


def reference(score, k, excluded):
    out = []
    for user, row in enumerate(score.tolist()):
        left = [i for i in range(len(row)) if (user, i) not in excluded]
        left.sort(key=lambda i: -row[i])
        out.append((left + [-1] * k)[:k])
    return torch.tensor(out)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 8),
    st.integers(0, 60),
    st.booleans(),
    st.integers(1, 10),
    st.data(),
)
def test_agrees_with_sorting(users, items, edges, biased, height, data):
    k = data.draw(st.integers(1, items))
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    query, item = torch.randn(users, 3), torch.randn(items, 3)
    bias = torch.randn(items) if biased else None
    # This includes duplicates and users with fewer than k items left.
    edge_index = torch.stack(
        [torch.randint(users, (edges,)), torch.randint(items, (edges,))]
    )
    score = query @ item.t() + (bias if biased else 0)
    excluded = set(zip(*edge_index.tolist()))
    expected = reference(score, k, excluded)
    exclude = CSR.from_edge_index(edge_index, (users, items))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, 'block_height', lambda *_: height)
        out = topk_items(query, item, k, bias, exclude)
        assert out.equal(expected)
        # A selection of users, with repeats.
        some = torch.randint(users, (4,))
        out = topk_items(query[some], item, k, bias, exclude.take(some))
        assert out.equal(expected[some])
        out = topk_items(query, item, k, bias)
        assert out.equal(reference(score, k, set()))


def test_exclusions_of_another_size():
    query, item = torch.randn(2, 3), torch.randn(4, 3)
    none = torch.empty(2, 0, dtype=torch.long)
    for size in ((1, 4), (2, 5)):
        exclude = CSR.from_edge_index(none, size)
        with pytest.raises(ValueError, match=r"'exclude' .* \[2, 4\]"):
            topk_items(query, item, 1, exclude=exclude)


def test_autocast():
    query, item = torch.randn(50, 40), torch.randn(30, 40)
    with torch.autocast('cpu', torch.bfloat16):
        out = topk_items(query, item, 1)
    score = query.bfloat16() @ item.bfloat16().t()
    assert out.view(-1).equal(score.max(dim=1).indices)
