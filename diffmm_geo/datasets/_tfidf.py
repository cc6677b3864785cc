import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def text_features(texts: Sequence[str], channels: int = 64) -> Tensor:
    r"""The tf-idf of the words and character n-grams of texts, reduced by a
    truncated SVD, with rows of unit length. Leaves out tokens of a single
    text, which carry no similarity.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    tfidf = TfidfVectorizer(analyzer=_tokens, min_df=2, sublinear_tf=True)
    x = tfidf.fit_transform(texts)
    # ARPACK finds all components but one.
    channels = min(channels, min(x.shape) - 1)
    svd = TruncatedSVD(channels, algorithm='arpack', random_state=0)
    out = svd.fit_transform(x)
    # Any sign is right: the largest value of a channel gets the positive one.
    largest = out[np.abs(out).argmax(axis=0), np.arange(channels)]
    out = normalize(out * np.sign(largest))
    return torch.from_numpy(out.astype(np.float32))


def _tokens(text: str) -> list[str]:
    words = re.findall(r'\w+', text.lower())
    # N-grams mark the start and the end of words, as in fastText.
    marked = [f'<{word}>' for word in words]
    return words + [
        word[i : i + n]
        for word in marked
        for n in range(3, 6)
        for i in range(len(word) - n + 1)
    ]
