import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import CrossModalContrastiveLoss
from diffmm_geo.ops.info_nce import info_nce_naive

N, F = 8, 3
INDEX = torch.tensor([0, 5, 5])


def random_views(*names):
    return {name: torch.randn(N, F, requires_grad=True) for name in names}


def test_modality_anchor():
    views = random_views('a', 'b', 'c')
    loss = CrossModalContrastiveLoss(0.3, 'modality')(views, INDEX)
    a, b, c = views.values()
    expected = sum(
        info_nce_naive(x, y, INDEX, 0.3) for x, y in ((a, b), (a, c), (b, c))
    )
    assert_close(loss, expected)
    assert_close(
        torch.autograd.grad(loss, [a, b, c]),
        torch.autograd.grad(expected, [a, b, c]),
    )


def test_main_anchor():
    views, main = random_views('a', 'b'), torch.randn(N, F, requires_grad=True)
    loss = CrossModalContrastiveLoss(0.3, 'main')(views, INDEX, main)
    expected = sum(
        info_nce_naive(main, view, INDEX, 0.3) for view in views.values()
    )
    assert_close(loss, expected)
    assert_close(
        torch.autograd.grad(loss, [main, *views.values()]),
        torch.autograd.grad(expected, [main, *views.values()]),
    )


def test_single_view():
    views, main = random_views('a'), torch.randn(N, F)
    assert float(CrossModalContrastiveLoss()(views, INDEX)) == 0
    loss = CrossModalContrastiveLoss(anchor='main')(views, INDEX, main)
    assert_close(loss, info_nce_naive(main, views['a'], INDEX, 0.5))


@pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('views', ({}, INDEX, torch.randn(N, F))),
        ('views', (torch.randn(N, F), INDEX, torch.randn(N, F))),
        ('main', (random_views('a'), INDEX, None)),
        (
            'views',
            (
                {'a': torch.randn(N, F), 'b': torch.randn(N + 1, F)},
                INDEX,
                torch.randn(N, F),
            ),
        ),
        ('index', (random_views('a'), INDEX + N, torch.randn(N, F))),
    ],
)
def test_bad_input(name, args):
    with pytest.raises(ValueError, match=f"'{name}"):
        CrossModalContrastiveLoss(anchor='main')(*args)


def test_bad_arguments():
    with pytest.raises(ValueError, match="'anchor'"):
        CrossModalContrastiveLoss(anchor='user')
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="'temperature'"):
            CrossModalContrastiveLoss(temperature)


def test_repr():
    assert str(CrossModalContrastiveLoss(0.2, 'main')) == (
        "CrossModalContrastiveLoss(temperature=0.2, anchor='main')"
    )
