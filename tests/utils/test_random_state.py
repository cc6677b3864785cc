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
    state, other = RandomState(7, CPU), RandomState(8, CPU)
    with state.entered():
        out = draw()
    torch.manual_seed(7)
    assert draw() == out
    other.load_state_dict(state.state_dict())
    with other.entered():
        assert draw() == draw_after(7)


def draw_after(seed):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        draw()
        return draw()


def test_is_left_after_an_error():
    before, state = torch.get_rng_state(), RandomState(7, CPU)
    with pytest.raises(KeyError), state.entered():
        draw()
        raise KeyError
    assert torch.get_rng_state().equal(before)
    with state.entered():
        assert draw() == draw_after(7)
