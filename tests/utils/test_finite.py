import math

import pytest
import torch

from diffmm_geo.utils.finite import FiniteLosses, NonFiniteLossError


@pytest.mark.parametrize(
    ('args', 'place'),
    [((), 'in step 2'), ((3, 7), 'in epoch 3, step 8')],
)
def test_stops_at_once_on_cpu(args, place):
    finite = FiniteLosses(['bpr', 'reg'], 3, *args)
    finite.check()
    finite.add(torch.tensor([1.0, 2.0]))
    finite.check()
    with pytest.raises(
        NonFiniteLossError, match=f"'reg' is -inf {place}$"
    ) as e:
        finite.add(torch.tensor([1.0, -math.inf]))
    assert (e.value.term, e.value.step) == ('reg', int(place[-1]))


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
