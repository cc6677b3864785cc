import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.nn import sampled_softmax_loss


@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_is_cross_entropy_of_the_positive(temperature):
    user, pos, neg = (torch.randn(n, 4) for n in (6, 6, 9))
    expected = [
        F.cross_entropy(torch.cat([i[None], neg]) @ u / temperature, target)
        for u, i, target in zip(user, pos, torch.zeros(6).long())
    ]
    loss = sampled_softmax_loss(user, pos, neg, temperature)
    assert_close(loss, torch.stack(expected).mean())


def test_large_scores():
    user = torch.full((2, 3), 1e3)
    assert sampled_softmax_loss(user, user, -user, 0.01) == 0.0


def test_bad_temperature():
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match="'temperature'"):
        sampled_softmax_loss(x, x, x, 0.0)
