import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.scorers import DenoiserScorer

U, I = 12, 10


@pytest.fixture
def diffusion():
    return ModalityDiffusion(I, ['image', 'text'], hidden_channels=8)


def test_scores_of_the_denoiser(diffusion, interactions):
    edge_index, x = interactions
    users = torch.tensor([3, U - 1, 0])
    for m in ('image', 'text'):
        scorer = DenoiserScorer(diffusion, edge_index, U, m)
        expected = diffusion.sample(m, x[users].float())
        assert_close(scorer(users), expected)
        # Its best items are those that it generates.
        edges = diffusion.sample_edges(m, edge_index, U, 2)
        assert scorer.recommend(k=2).equal(edges[1].view(U, 2))
    assert scorer.size == (U, I)


def test_training_goes_on(diffusion, interactions):
    edge_index, _ = interactions
    scorer = DenoiserScorer(diffusion, edge_index, U, 'image')
    before = scorer(torch.arange(U))
    diffusion.train()
    emb = torch.randn(I, 4)
    embs = {'image': emb, 'text': emb}
    diffusion.fit(edge_index, U, emb, embs, num_epochs=2, lr=0.1)
    assert not scorer(torch.arange(U)).allclose(before)
    assert diffusion.training


def test_wrong_arguments(diffusion, interactions):
    edge_index, _ = interactions
    good = (diffusion, edge_index, U, 'image')
    for n, (name, value) in enumerate(
        {
            'diffusion': diffusion['image'],
            'edge_index': edge_index + U,
            'num_users': 0,
            'modality': 'audio',
        }.items()
    ):
        args = [*good[:n], value, *good[n + 1 :]]
        with pytest.raises(ValueError, match=f"'{name}'"):
            DenoiserScorer(*args)
