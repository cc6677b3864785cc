import math

import numpy as np
import torch

from diffmm_geo.datasets._tfidf import text_features

WORDS = ['toy', 'war', 'sea', 'ice', 'fox', 'mud']


def test_cosines_are_those_of_tf_idf():
    # Only equal words share n-grams. A word of three letters has six: <to,
    # toy, oy>, <toy, toy> and <toy>, of which one is the word itself, too.
    texts = ['toy war toy', 'war sea', 'toy', 'sea ice', 'ice']
    words = ['toy', 'war', 'sea', 'ice']
    tf = np.array([[t.split().count(word) for word in words] for t in texts])
    tf = np.kron(tf, [2, 1, 1, 1, 1, 1])
    idf = 1 + math.log((1 + 5) / (1 + 2))
    x = np.where(tf > 0, 1 + np.log(np.maximum(tf, 1)), 0) * idf
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    best = (u * s)[:, :3]
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    out = text_features(texts, channels=3)
    assert out.size() == (5, 3) and out.dtype == torch.float32
    assert np.allclose(out @ out.t(), best @ best.T, atol=1e-5)


def test_is_deterministic():
    rng = np.random.RandomState(0)
    texts = [' '.join(rng.choice(WORDS, 3)) for _ in range(200)] + ['']
    np.random.seed(1)
    out = text_features(texts, 4)
    np.random.seed(2)
    assert torch.equal(text_features(texts, 4), out)
    assert out[-1].eq(0).all()
    assert torch.allclose(out[:-1].norm(dim=1), torch.ones(200))
