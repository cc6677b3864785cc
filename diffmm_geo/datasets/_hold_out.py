import numpy as np


def hold_out(
    user: np.ndarray, key: np.ndarray, num_val: np.ndarray, num_test: np.ndarray
) -> list[np.ndarray]:
    r"""Masks of training, validation and test interactions. Of each user,
    those with the lowest :obj:`key` are for testing, and the next for
    validation.
    """
    perm = np.lexsort((key, user))
    count = np.bincount(user, minlength=len(num_test))
    start = np.cumsum(count) - count
    rank = np.empty(len(user), dtype=np.int64)
    rank[perm] = np.arange(len(user)) - start[user[perm]]
    test = rank < num_test[user]
    val = (rank < (num_val + num_test)[user]) & ~test
    return [~(val | test), val, test]
