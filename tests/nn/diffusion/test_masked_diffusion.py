import pytest
import torch

from diffmm_geo.nn import MaskedDiffusion


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
