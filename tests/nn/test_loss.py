import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import CrossModalContrastiveLoss
from diffmm_geo.ops.info_nce import info_nce_naive

N, F = 8, 3
INDEX = torch.tensor([0, 5, 5])


def random_views(*names):
    return {name: torch.randn(N, F, requires_grad=True) for name in names}


def compare(loss, pairs, *learned):
    expected = sum(info_nce_naive(x, y, INDEX, 0.3) for x, y in pairs)
    assert_close(loss, expected)
    assert_close(
        torch.autograd.grad(loss, learned),
        torch.autograd.grad(expected, learned),
    )


@pytest.mark.parametrize('anchor', ['modality', None])
def test_modality_anchor(anchor):
    views = random_views('a', 'b', 'c')
    loss = CrossModalContrastiveLoss(0.3, anchor)(views, INDEX)
    a, b, c = views.values()
    compare(loss, [(a, b), (a, c), (b, c)], a, b, c)
    single = CrossModalContrastiveLoss(0.3, anchor)({'a': a}, INDEX)
    assert float(single) == 0


@pytest.mark.parametrize('anchor', ['main', None])
def test_main_anchor(anchor):
    views, main = random_views('a', 'b'), torch.randn(N, F, requires_grad=True)
    loss = CrossModalContrastiveLoss(0.3, anchor)(views, INDEX, main)
    pairs = [(main, view) for view in views.values()]
    compare(loss, pairs, main, *views.values())


def test_modality_anchor_ignores_main():
    views, main = random_views('a', 'b'), torch.randn(N, F)
    loss = CrossModalContrastiveLoss(0.3, 'modality')
    assert loss(views, INDEX, main).equal(loss(views, INDEX))
