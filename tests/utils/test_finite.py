import math

import pytest
import torch

from diffmm_geo.utils.finite import (
    FiniteLosses,
    NonFiniteLossError,
    errors_of_epoch,
)


@pytest.mark.parametrize('first', [1, 7])
def test_stops_at_once_on_cpu(first):
    finite = FiniteLosses(['bpr', 'reg'], 3, first)
    finite.check()
    finite.add(torch.tensor([1.0, 2.0]))
    finite.check()
    match = f"'reg' is -inf in epoch 3, step {first + 1}$"
    with pytest.raises(NonFiniteLossError, match=match) as e:
        with errors_of_epoch(3):
            finite.add(torch.tensor([1.0, -math.inf]))
    assert (e.value.term, e.value.step) == ('reg', first + 1)


def test_finds_the_first_step_at_the_end(monkeypatch):
    finite = FiniteLosses(['bpr', 'reg'], 3)
    with monkeypatch.context() as patch:  # As on a GPU, where a check waits.
        patch.setattr(finite, '_check', lambda *_: None)
        for terms in [[1.0, 1.0], [1.0, math.nan], [math.inf, math.nan]]:
            finite.add(torch.tensor(terms))
    with pytest.raises(NonFiniteLossError, match="'reg' is nan in step 2"):
        finite.check()


def test_means():
    finite = FiniteLosses(['bpr', 'reg'], 3)
    for _ in range(2):  # Epochs.
        finite.start_epoch()
        finite.add(torch.tensor([1.0, 2.0]))
        finite.add(torch.tensor([3.0, 4.0]))
        assert finite.means([0.75, 0.25]) == {'bpr': 1.5, 'reg': 2.5}
