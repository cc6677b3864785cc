import pytest
import torch

from diffmm_geo.nn import MaskedDiffusion
from tests.wrong_values import wrong_values


def test_schedule():
    process = MaskedDiffusion(4)
    assert process.mask_prob.allclose(torch.tensor([0.2, 0.4, 0.6, 0.8]))
    assert MaskedDiffusion(1).mask_prob.tolist() == [0.5]
    assert list(process.state_dict()) == ['mask_prob']
    assert MaskedDiffusion(**process.config).num_steps == 4


def test_interactions_are_dropped():
    process, x = MaskedDiffusion(3), (torch.rand(6, 5) < 0.5).double()
    t, noise = torch.tensor([0, 1, 2, 0, 1, 2]), torch.rand(6, 5).double()
    out = process.q_sample(x, t, noise)
    for row in range(6):
        prob = (int(t[row]) + 1) / 4
        assert out[row].equal(x[row] * (noise[row] >= prob))


def test_share_of_dropped_interactions():
    process, x = MaskedDiffusion(3), torch.ones(400, 300)
    for t in range(3):
        kept = process.q_sample(x, t).mean()
        assert float(kept) == pytest.approx(1 - (t + 1) / 4, abs=0.01)


@wrong_values(
    x_start=[torch.zeros(3), torch.zeros(3, 4).long()],
    t=[3, -1, torch.tensor([0, 3, 0]), torch.tensor([0, 1])],
    noise=[torch.zeros(3, 5), torch.zeros(3, 4).double()],
)
def test_bad_q_sample(name, value):
    args = {'x_start': torch.zeros(3, 4), 't': 1, name: value}
    with pytest.raises(ValueError, match=f"'{name}'"):
        MaskedDiffusion(3).q_sample(**args)


@pytest.mark.parametrize('value', [0, 1.5, True])
def test_bad_number_of_steps(value):
    with pytest.raises(ValueError, match="'num_steps'"):
        MaskedDiffusion(value)


def test_repr():
    assert str(MaskedDiffusion(3)) == 'MaskedDiffusion(3)'
