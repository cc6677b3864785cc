import numpy as np


def unique_edges(
    user: np.ndarray, item: np.ndarray, num_items: int
) -> np.ndarray:
    r"""The distinct pairs :math:`(2, |\mathcal{E}|)`, by user, then item."""
    key = user.astype(np.int64) * num_items + item.astype(np.int64)
    return np.stack(np.divmod(np.unique(key), num_items))
