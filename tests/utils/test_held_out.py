import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_geo.utils import held_out as module
from diffmm_geo.utils.held_out import check_splits, num_observed

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30)


def edges(pairs):
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()


@settings(deadline=None)
@given(pairs, pairs, st.integers(1, 5), st.integers(1, 4))
def test_counts_as_sets_do(held_out, observed, chunk, bits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'CHUNK_SIZE', chunk)
        patch.setattr(module, 'NUM_BITS', bits)
        out = num_observed(edges(held_out), edges(observed), 7)
    both = set(held_out) & set(observed)
    assert out == (len(both), len(set(held_out)))


OBSERVED = [(0, 1), (1, 2), (2, 3)]
NEW = [(0, 2), (1, 1)]


def check(val, test=None):
    splits = {'train': OBSERVED, 'val': val, 'test': test}
    check_splits({k: edges(x) for k, x in splits.items() if x is not None}, 7)


def test_splits():
    for val, test, name in (
        (OBSERVED[:2], NEW, 'val'),
        (NEW, OBSERVED, 'test'),
    ):
        with pytest.raises(ValueError, match=f"'{name}' needs .*'train'"):
            check(val, test)
    with pytest.warns(UserWarning, match="1 of 3 interactions in 'val'"):
        check([*NEW, OBSERVED[0]], NEW)
    with pytest.warns(UserWarning, match="'val' and 'test' are the same"):
        check(NEW, NEW[::-1])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check(NEW)
        check(NEW, NEW[:1])
        check([], [])
