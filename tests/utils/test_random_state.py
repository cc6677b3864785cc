import random

import numpy as np
import pytest
import torch

from diffmm_geo.utils.random_state import (
    RandomState,
    get_random_state,
    set_random_state,
)

CPU = torch.device('cpu')


def draw():
    # Normal numbers come in pairs, of which the second is kept for later.
    return (
        *(random.random(), random.gauss(0, 1)),
        *(np.random.rand(), np.random.randn()),
        *(float(torch.rand(())), float(torch.randn(()))),
    )


def test_continues_where_it_was():
    draw()
    state = get_random_state(CPU)
    expected = [draw() for _ in range(3)]
    set_random_state(CPU, state)
    assert [draw() for _ in range(3)] == expected


def test_does_not_affect_others():
    before = get_random_state(CPU)
    expected = [draw() for _ in range(4)]
    alone = RandomState(3, CPU)
    with alone.entered():
        own = [draw() for _ in range(4)]
    assert own != expected

    set_random_state(CPU, before)
    state, out, outer = RandomState(3, CPU), [], []
    for _ in range(2):
        outer.append(draw())
        with state.entered(), state.entered():
            out += [draw(), draw()]
        outer.append(draw())
    assert out == own and outer == expected


def test_starts_as_seeds_do():
    with RandomState(7, CPU).entered():
        out = draw()
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert draw() == out


def test_is_left_after_an_error():
    before = get_random_state(CPU)
    with pytest.raises(KeyError), RandomState(7, CPU).entered():
        draw()
        raise KeyError
    after = get_random_state(CPU)
    assert all(before[name].equal(after[name]) for name in before)
