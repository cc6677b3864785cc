import pytest
import torch
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from diffmm_geo.scorers import FeatureCosine

U, I, C = 6, 9, 4


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(I, C, generator=generator)
    # The last user has no interactions, and the last item none either.
    edge_index = torch.tensor(
        [[0, 0, 1, 2, 2, 2, 3, 4], [0, 3, 3, 1, 2, 5, 7, 6]]
    )
    return edge_index, x


def test_documented_formula(case):
    edge_index, x = case
    out = FeatureCosine(edge_index, x, U)(torch.arange(U))
    z = (x - x.mean(0)) / x.std(0, correction=0)
    z = z / z.norm(dim=1, keepdim=True)
    for user in range(U - 1):
        profile = z[edge_index[1, edge_index[0] == user]].sum(0)
        expected = cosine_similarity(profile[None], z)
        assert_close(out[user], expected, rtol=1e-4, atol=1e-5)
    assert (out[U - 1] == 0).all()
    assert (out[: U - 1, I - 1] != 0).all()


def test_scale_and_shift_of_features_do_not_matter(case):
    edge_index, x = case
    expected = FeatureCosine(edge_index, x, U)(torch.arange(U))
    changed = 1000 * x + torch.tensor([1.0, -2, 80, 0])
    out = FeatureCosine(edge_index, changed, U)(torch.arange(U))
    assert_close(out, expected, rtol=1e-3, atol=1e-3)


def test_missing_features_score_zero(case):
    edge_index, x = case
    x[4] = 0.0
    out = FeatureCosine(edge_index, x, U)(torch.arange(U))
    assert (out[:, 4] == 0).all()
    constant = FeatureCosine(edge_index, torch.ones(I, 2), U)
    assert (constant(torch.arange(U)) == 0).all()


def test_wrong_features(case):
    edge_index, x = case
    for value in (x[:3], x[0], x.long(), torch.full_like(x, float('nan'))):
        with pytest.raises(ValueError, match="'x'|'edge_index'"):
            FeatureCosine(edge_index, value, U)
