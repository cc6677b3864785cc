import numpy as np
import pytest
import torch

from diffmm_geo.datasets._tfidf import tfidf, truncated_svd


def test_tfidf():
    out = tfidf([['a', 'b', 'a'], ['b', 'c'], ['a'], []]).toarray()
    assert out.shape == (4, 2)  # 'c' is in one document only.
    # Both are in two documents, so that only the frequencies matter.
    expected = np.array([1 + np.log(2), 1]) / np.hypot(1 + np.log(2), 1)
    assert np.allclose(out, [expected, [0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize('size', [30, 200])  # Dense and sparse.
def test_truncated_svd(size):
    rng = np.random.RandomState(0)
    documents = [rng.choice(list('abcdefghijklmnop'), 3) for _ in range(size)]
    words = [
        [*document, f'{i % (size // 2)}']
        for i, document in enumerate(documents)
    ]
    words[3] = []
    matrix = tfidf(words)
    outs = []
    for seed in range(2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        outs.append(truncated_svd(matrix, channels=60))
    out = outs[0]
    assert torch.equal(out, outs[1])
    assert out.dtype == torch.float32
    assert out.size() == (size, min(60, *matrix.shape))
    norm = torch.ones(size)
    norm[3] = 0
    assert torch.allclose(out.norm(dim=1), norm, atol=1e-5)

    # Cosines are those of the best approximation of this rank.
    u, s, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    x = torch.from_numpy((u * s)[:, : out.size(1)]).float()
    x[3] = 0
    x = torch.nn.functional.normalize(x)
    assert torch.allclose(out @ out.t(), x @ x.t(), atol=1e-4)


def test_documents_without_tokens():
    out = truncated_svd(tfidf([[], []]), channels=4)
    assert out.tolist() == [[0.0], [0.0]]
