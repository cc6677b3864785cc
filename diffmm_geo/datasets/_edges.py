import numpy as np


def unique_edges(
    user: np.ndarray, item: np.ndarray, num_items: int
) -> np.ndarray:
    r"""The distinct pairs :math:`(2, |\mathcal{E}|)`, by user, then item."""
    key = np.sort(_keys(user, item, num_items))
    return np.stack(np.divmod(key[_starts(key)], num_items))


def earliest_edges(
    user: np.ndarray, item: np.ndarray, num_items: int, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""The pairs of :func:`unique_edges` and the earliest time of each."""
    key = _keys(user, item, num_items)
    order = np.argsort(key)
    key = key[order]
    starts = _starts(key)
    edges = np.stack(np.divmod(key[starts], num_items))
    return edges, np.minimum.reduceat(time[order], starts)


def _keys(user: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    return user.astype(np.int64) * num_items + item.astype(np.int64)


def _starts(key: np.ndarray) -> np.ndarray:
    # `numpy.unique` is many times slower, with hash tables since NumPy 2.3.
    return np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
