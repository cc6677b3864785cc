import math

import pytest
import torch

from diffmm_geo.utils.finite import FiniteLosses, NonFiniteLossError


def test_stops_at_once_on_cpu():
    finite = FiniteLosses(['bpr', 'reg'], 3)
    finite.add(torch.tensor([1.0, 2.0]))
    finite.check()
    with pytest.raises(NonFiniteLossError) as error:
        finite.add(torch.tensor([1.0, -math.inf]))
    assert (error.value.term, error.value.step) == ('reg', 2)
    assert str(error.value) == "the loss 'reg' is -inf in step 2"


def test_finds_the_first_step_at_the_end(monkeypatch):
    finite = FiniteLosses(['bpr', 'reg'], 3)
    with monkeypatch.context() as patch:  # As on a GPU, where a check waits.
        patch.setattr(finite, '_check', lambda *_: None)
        for terms in [[1.0, 1.0], [1.0, math.nan], [math.inf, math.nan]]:
            finite.add(torch.tensor(terms))
    with pytest.raises(NonFiniteLossError, match="'reg' is nan in step 2"):
        finite.check()


def test_nothing_added():
    FiniteLosses(['bpr'], 3).check()


def test_means():
    finite = FiniteLosses(['bpr', 'reg'], 3)
    for _ in range(2):  # Epochs.
        finite.start_epoch()
        finite.add(torch.tensor([1.0, 2.0]))
        finite.add(torch.tensor([3.0, 4.0]))
        assert finite.means([0.75, 0.25]) == {'bpr': 1.5, 'reg': 2.5}


def test_first_step():
    finite = FiniteLosses(['bpr'], 2, epoch=3, first_step=7)
    finite.add(torch.tensor([1.0]))
    with pytest.raises(NonFiniteLossError, match='in epoch 3, step 8'):
        finite.add(torch.tensor([math.nan]))
