import numpy as np


def unique_edges(
    user: np.ndarray,
    item: np.ndarray,
    num_items: int,
) -> np.ndarray:
    r"""Returns the distinct pairs, sorted by user and item, of shape
    :math:`[2, |\mathcal{E}|]` in :obj:`numpy.int64`.
    """
    key = user.astype(np.int64) * num_items + item.astype(np.int64)
    return np.stack(np.divmod(np.unique(key), num_items))
