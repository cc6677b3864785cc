from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor


def tfidf(documents: Sequence[Iterable[str]]) -> sparse.csr_matrix:
    r"""The tf-idf matrix of tokenized documents, with rows of unit length (or
    zero)

    .. math::
        \mathbf{X}_{ij} \propto (1 + \log \mathrm{tf}_{ij}) \left( 1 + \log
        \frac{1 + n}{1 + \mathrm{df}_j} \right).

    It leaves out tokens of a single document, which carry no similarity.
    """
    counts = [Counter(document) for document in documents]
    df = Counter(token for count in counts for token in count)
    shared = sorted(token for token, value in df.items() if value > 1)
    vocabulary = {token: i for i, token in enumerate(shared or sorted(df))}

    row, col, value = [], [], []
    for i, count in enumerate(counts):
        for token, tf in count.items():
            if token in vocabulary:
                idf = 1 + np.log((1 + len(counts)) / (1 + df[token]))
                row.append(i)
                col.append(vocabulary[token])
                value.append((1 + np.log(tf)) * idf)
    shape = (len(counts), len(vocabulary))
    out = sparse.csr_matrix((value, (row, col)), shape=shape, dtype=float)
    norm = np.sqrt(np.asarray(out.multiply(out).sum(axis=1)).ravel())
    norm[norm == 0] = 1
    return sparse.diags(1 / norm) @ out


def truncated_svd(matrix: sparse.csr_matrix, channels: int) -> Tensor:
    r"""The leading left singular vectors, scaled by the singular values, with
    rows of unit length (or zero). The output is deterministic.
    """
    size = min(matrix.shape)
    if size == 0:
        return torch.zeros(matrix.shape[0], 1)
    if size <= channels:  # ARPACK cannot find all.
        u, s, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    else:
        v0 = np.random.RandomState(0).standard_normal(size)
        u, s, _ = svds(matrix, k=channels, v0=v0, solver='arpack')
    order = np.argsort(-s, kind='stable')
    u, s = u[:, order], s[order]
    # Fixes the signs of singular vectors.
    largest = u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])]
    out = u * s * np.where(largest < 0, -1, 1)

    # Rows without any token stay exactly zero.
    out[np.diff(matrix.tocsr().indptr) == 0] = 0
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.where(norm < 1e-8, 1, norm)
    return torch.from_numpy(out.astype(np.float32))
