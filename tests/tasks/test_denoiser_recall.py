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


@pytest.mark.parametrize(
    ('likelihood', 'advice'),
    [
        ('gaussian', 'epochs, or with likelihood="multinomial"'),
        ('multinomial', 'epochs'),
    ],
)
def test_warning(likelihood, advice):
    recall = {'popularity': 0.5, 'a': 0.5, 'b': 0.25}
    match = rf"is {{'b': 0.25}} against 0.5000. Train for more {advice}$"
    with pytest.warns(UserWarning, match=match):
        warn_below_popularity(recall, 1, likelihood)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_below_popularity({**recall, 'b': 0.75}, 1, likelihood)
