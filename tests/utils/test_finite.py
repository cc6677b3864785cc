import math

import pytest
import torch

from diffmm_geo.utils.finite import FiniteLosses, NonFiniteLossError


def test_stops_at_once_on_cpu():
    finite = FiniteLosses(['bpr', 'reg'])
    finite.add(1, torch.tensor([1.0, 2.0]))
    finite.check()
    with pytest.raises(NonFiniteLossError) as error:
        finite.add(2, torch.tensor([1.0, -math.inf]))
    assert (error.value.term, error.value.step) == ('reg', 2)
    assert str(error.value) == "the loss 'reg' is -inf in step 2"


def test_finds_the_first_step_at_the_end(monkeypatch):
    finite = FiniteLosses(['bpr', 'reg'])
    with monkeypatch.context() as patch:  # As on a GPU, where a check waits.
        patch.setattr(finite, 'check', lambda: None)
        for step, terms in enumerate(
            [[1.0, 1.0], [1.0, math.nan], [math.inf, math.nan]], start=1
        ):
            finite.add(step, torch.tensor(terms))
    with pytest.raises(NonFiniteLossError, match="'reg' is nan in step 2"):
        finite.check()


def test_nothing_added():
    FiniteLosses(['bpr']).check()
