import pytest
import torch

from diffmm_geo.utils.random_state import RandomState

CPU = torch.device('cpu')


def draw():
    return float(torch.rand(())), float(torch.randn(()))


def test_does_not_affect_others():
    before = torch.get_rng_state()
    expected = [draw() for _ in range(4)]
    with RandomState(3, CPU).entered():
        own = [draw() for _ in range(4)]
    assert own != expected

    torch.set_rng_state(before)
    state, out, outer = RandomState(3, CPU), [], []
    for _ in range(2):
        outer.append(draw())
        with state.entered():
            out.append(draw())
            with state.entered():  # Continues.
                out.append(draw())
        outer.append(draw())
    assert out == own and outer == expected


def test_starts_as_a_seed_does_and_continues_where_it_was():
    before, state = torch.get_rng_state(), RandomState(7, CPU)
    with pytest.raises(KeyError), state.entered():
        first = draw()
        raise KeyError
    assert torch.get_rng_state().equal(before)
    other = RandomState(8, CPU)
    other.load_state_dict(state.state_dict())
    torch.manual_seed(7)
    expected = [draw(), draw()]
    for entered in (state, other):
        with entered.entered():
            assert [first, draw()] == expected
