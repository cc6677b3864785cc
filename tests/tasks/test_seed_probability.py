import pytest
import torch

from diffmm_geo.tasks.seed_probability import SeedProbability
from diffmm_geo.training import NegativeSampler

U, I = 12, 9


@pytest.mark.parametrize('batch_size', [1, 7, 20])
def test_agrees_with_frequencies(random_edges, batch_size):
    edges = random_edges(U, I, 40)
    edges = torch.cat([edges, edges[:, :5]], dim=1)  # Some come twice.
    sampler = NegativeSampler(edges, U, I)
    count = 6000
    seen = torch.zeros(U), torch.zeros(I)
    for _ in range(count):
        order = torch.randperm(edges.size(1))[:batch_size]
        user, positive = edges[:, order]
        seen[0][user.unique()] += 1
        negative = sampler.sample(user)
        seen[1][torch.cat([positive, negative]).unique()] += 1
    probability = SeedProbability(edges, edges, U, I)(batch_size)
    for frequency, expected in zip(seen, probability):
        frequency = frequency / count
        error = (expected * (1 - expected) / count).sqrt()
        # Negatives are not quite independent.
        tolerance = 5 * error + 0.02
        assert bool(((frequency - expected).abs() <= tolerance).all())


def test_all_interactions():
    edges = torch.tensor([[0, 1, 2], [0, 1, 1]])
    user, item = SeedProbability(edges, edges, 4, 3)(3)
    assert user.tolist() == [1, 1, 1, 0]
    # Each user draws item 2 half of the time.
    assert item.tolist() == [1, 1, 1 - 0.5**3]


def test_users_without_negatives():
    observed = torch.tensor([[0, 0, 1], [0, 1, 0]])
    user, item = SeedProbability(observed[:, 2:], observed, 2, 2)(1)
    assert user.tolist() == [0, 1]
    assert item.tolist() == [1, 1]


def test_many_interactions():
    edges = torch.stack([torch.arange(10**5), torch.zeros(10**5).long()])
    user, item = SeedProbability(edges, edges, 10**5, 2)(1000)
    assert user[0].item() == pytest.approx(0.01, rel=1e-6)
    assert item.tolist() == [1, 1]
