import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_geo.training import NegativeSampler


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 40),
    st.integers(0, 2**16),
)
def test_negatives_are_never_observed(num_users, num_items, edges, seed):
    torch.manual_seed(seed)
    edge_index = torch.stack(
        [torch.randint(num_users, (edges,)), torch.randint(num_items, (edges,))]
    )
    sampler = NegativeSampler(edge_index, num_users, num_items)
    observed = set(zip(*edge_index.tolist()))
    users = torch.arange(num_users)
    left = sampler.has_negatives(users)
    for user in range(num_users):
        count = sum(u == user for u, _ in observed)
        assert bool(left[user]) == (count < num_items)
    users = users[left].repeat_interleave(20)
    items = sampler.sample(users)
    assert items.size() == users.size()
    assert ((items >= 0) & (items < num_items)).all()
    assert observed.isdisjoint(zip(users.tolist(), items.tolist()))


def test_negatives_are_uniform():
    # User 1 has no items, and user 2 all, between users who have some.
    observed = [{0, 1, 2, 6}, set(), set(range(7)), {1, 3, 5}, {6}, {0}]
    pairs = [(u, i) for u, items in enumerate(observed) for i in items]
    sampler = NegativeSampler(torch.tensor(pairs).t(), 6, 7)
    for user, items in enumerate(observed):
        if user == 2:
            with pytest.raises(ValueError, match="'users' needs users with"):
                sampler.sample(torch.tensor([1, 2]))
            continue
        drawn = sampler.sample(torch.full((6000,), user))
        count = torch.bincount(drawn, minlength=7)
        for item in range(7):
            expected = 0 if item in items else 6000 / (7 - len(items))
            assert abs(int(count[item]) - expected) <= 5 * expected**0.5


@pytest.mark.parametrize(
    'edge_index',
    [torch.tensor([[2], [0]]), torch.tensor([[0], [3]]), torch.zeros(2, 1)],
)
def test_bad_edges(edge_index):
    with pytest.raises(ValueError, match="'edge_index'"):
        NegativeSampler(edge_index, 2, 3)
