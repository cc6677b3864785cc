import warnings

import pytest
import torch

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.sparse import CSR
from diffmm_geo.tasks.denoiser_recall import (
    denoiser_recall,
    warn_below_popularity,
)

U, I = 9, 7


@pytest.mark.parametrize('process', [None, MaskedDiffusion()])
def test_agrees_with_evaluate(random_edges, process):
    edges = random_edges(U, I, 30)
    held_out, observed = edges[:, :8], edges[:, 8:]
    lists = CSR.from_edge_index(observed, (U, I), coalesce=True)
    diffusion = ModalityDiffusion(I, ['a', 'b'], process, hidden_channels=4)
    out = denoiser_recall(diffusion, lists, held_out, 3)
    assert list(out) == ['popularity', 'a', 'b']
    # Scores are products of themselves and unit vectors.
    x, unit = lists.dense(torch.zeros(())), torch.eye(I)
    for m in ('a', 'b'):
        score = diffusion.sample(m, x)
        expected = evaluate(score, unit, held_out, observed, 3)
        assert out[m] == pytest.approx(expected['recall@3'])
    degree = x.sum(dim=0).expand(U, I).contiguous()
    expected = evaluate(degree, unit, held_out, observed, 3)
    assert out['popularity'] == pytest.approx(expected['recall@3'])


def test_warning():
    # All like item 0 best, and miss it.
    observed = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    held_out = torch.tensor([[3], [0]])
    lists = CSR.from_edge_index(observed, (4, I))
    diffusion = ModalityDiffusion(I, ['a', 'b'], hidden_channels=4)
    for m, score in (('a', 9.0), ('b', -9.0)):
        with torch.no_grad():
            diffusion.denoisers[m].lin_out.bias[0] = score
    with pytest.warns(UserWarning, match="'b': 0.0} against 1.0000") as seen:
        warn_below_popularity(diffusion, lists, held_out, 1)
    assert len(seen) == 1 and "'a'" not in str(seen[0].message)
    with torch.no_grad():
        diffusion.denoisers['b'].lin_out.bias[0] = 9.0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_below_popularity(diffusion, lists, held_out, 1)
