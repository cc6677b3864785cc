r"""Against a loop over the scores of each user."""

import pytest
import torch

from diffmm_geo.nn import GaussianDiffusion, MaskedDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion import interaction_diffusion

U, I, K = 10, 8, 3
PROCESSES = [GaussianDiffusion(3, 1.0, 1e-3, 0.5), MaskedDiffusion(3)]


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize('block', [1, 20, 2**22])
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('exclude', [False, True])
@pytest.mark.parametrize('candidates', [None, [6, 1, 4]])
def test_edges_are_the_top_items(
    monkeypatch, x_start, process, block, normalize, exclude, candidates
):
    monkeypatch.setattr(interaction_diffusion, 'BLOCK_SIZE', block)
    options = {'hidden_channels': 5, 'normalize': normalize}
    diffusion = ModalityDiffusion(I, ['image'], process, **options)
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x_start[0] = 1  # Nothing is left for this user.
    score = diffusion.sample('image', x_start)
    expected = []
    for u in range(U):
        items = range(I) if candidates is None else candidates
        items = [i for i in items if not (exclude and x_start[u, i] > 0)]
        items.sort(key=lambda i: -float(score[u, i]))
        expected += [[u, i] for i in items[:K]]
    if candidates is not None:
        candidates = torch.tensor(candidates)
    options = {'candidates': candidates, 'exclude_observed': exclude}
    # The order of interactions and their repetition do not matter.
    edges = x_start.nonzero().t()
    edges = torch.cat([edges.flip(1), edges[:, ::2]], dim=1)
    for out in (
        diffusion.sample_edges('image', edges, U, K, **options),
        diffusion['image'].sample_edges(edges, U, K, **options),
    ):
        assert out.t().tolist() == expected
