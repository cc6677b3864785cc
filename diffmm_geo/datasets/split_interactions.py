import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.checks import (
    MAX_SEED,
    check_choice,
    check_edge_type,
    check_finite,
    check_int,
    check_number,
    check_type,
    describe,
)
from diffmm_geo.utils.interactions import count_nodes, observed_edges

from ._user_item_data import SPLITS

METHODS = ('random', 'leave_one_out', 'time')


def split_interactions(
    data: HeteroData,
    method: str = 'random',
    *,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> HeteroData:
    r"""Returns a copy of a user-item graph, and holds some of its interactions
    out for validation and testing:

    - :obj:`"random"`: for each user with :math:`n` interactions,
      :math:`\lfloor rn + 1/2 \rfloor` at random, where :math:`r` is
      :obj:`val` or :obj:`test`. Each user keeps at least one.
    - :obj:`"leave_one_out"`: the last interaction of each user for testing, and
      the second to last for validation. The order is by :obj:`time`, or random
      if interactions have no :obj:`time`. Users with fewer than three
      interactions keep them all.
    - :obj:`"time"`: the latest of all interactions by :obj:`time` for testing,
      and the latest of the rest for validation. A user may then have no
      training interaction.

    Other attributes of interactions, such as :obj:`time`, are kept for training
    interactions only. The global random state is neither used nor changed.

    Args:
        data (HeteroData): The graph.
        method (str, optional): :obj:`"random"`, :obj:`"leave_one_out"` or
            :obj:`"time"`. (default: :obj:`"random"`)
        val (float, optional): The share for validation.
            :obj:`"leave_one_out"` ignores it. (default: :obj:`0.1`)
        test (float, optional): The share for testing, likewise.
            (default: :obj:`0.1`)
        seed (int, optional): The seed of a random split. (default: :obj:`0`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the graph has held-out interactions already or has no
            :obj:`time` to split by, or if nothing is left for training.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.datasets import split_interactions
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 5
        >>> store = data['user', 'interacts', 'item']
        >>> store.edge_index = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 2, 3, 4]])
        >>> store.time = torch.tensor([5, 6, 4, 1, 2])
        >>> data = split_interactions(data, 'leave_one_out')
        >>> data['user', 'interacts', 'item'].test_edge_label_index
        tensor([[0],
                [1]])
    """
    check_type('data', data, HeteroData)
    check_choice('method', method, METHODS)
    val = check_number('val', val, 0.0, 1.0, high_open=True)
    test = check_number('test', test, 0.0, 1.0 - val, high_open=True)
    seed = check_int('seed', seed, 0, MAX_SEED)
    edge_type = check_edge_type(edge_type)
    num_users, num_items = count_nodes(data, edge_type)
    data = copy.copy(data)
    store = data[edge_type]
    there = [name for name in SPLITS[1:] if name in store]
    if there:
        raise ValueError(
            f"'data' needs interactions that are not split yet (got {there})"
        )
    edge_index = observed_edges(store, (num_users, num_items))
    store.edge_index = edge_index
    store.pop('adj_t', None)  # Of `T.ToSparseTensor`.
    user = edge_index[0].cpu().numpy()
    # Of each user, the interactions with the lowest keys are held out.
    key = None if method == 'random' else _negative_times(store, len(user))
    if method == 'time':
        if key is None:
            raise ValueError(
                f"'data' needs a 'time' of each interaction to split by "
                f'(got {list(store.keys())})'
            )
        user = np.zeros_like(user)  # As if one user had all interactions.
    if key is None:
        # The stream of `RandomState` is stable across versions of NumPy.
        key = np.random.RandomState(seed).random_sample(len(user))
    count = np.bincount(user, minlength=num_users)
    if method == 'leave_one_out':
        num_val = num_test = (count >= 3).astype(np.int64)
    else:
        num_val, num_test = (
            np.floor(share * count + 0.5).astype(np.int64)
            for share in (val, test)
        )
    if method == 'random':
        num_test = np.minimum(num_test, np.maximum(count - 1, 0))
        num_val = np.minimum(num_val, np.maximum(count - num_test - 1, 0))
    perm = np.lexsort((key, user))
    start = np.cumsum(count) - count
    rank = np.empty(len(user), dtype=np.int64)
    rank[perm] = np.arange(len(user)) - start[user[perm]]
    # 0 for training, 1 for validation, 2 for testing.
    split = 1 * (rank < (num_val + num_test)[user]) + (rank < num_test[user])
    train, *held_out = (
        torch.from_numpy(np.flatnonzero(split == n)).to(edge_index.device)
        for n in range(3)
    )
    if train.numel() == 0:
        raise ValueError(
            f"'data' needs interactions to train on after the split "
            f'(got {len(user)} before, and none after it)'
        )

    names = store.edge_attrs()  # Before their sizes differ.
    store.update({name: _take(data, store, name, train) for name in names})
    for name, index in zip(SPLITS[1:], held_out):
        if index.numel() > 0:
            store[name] = edge_index[:, index]
    return data


def _negative_times(store: Any, num_edges: int) -> np.ndarray | None:
    time = store.get('time')
    if time is None:
        return None
    if not isinstance(time, Tensor) or time.size() != (num_edges,):
        raise ValueError(
            f"'time' needs to be a vector with a number for each of the "
            f'{num_edges} interactions (got {describe(time)})'
        )
    check_finite('time', time)
    time = time.double() if time.is_floating_point() else time.long()
    out: np.ndarray = -time.cpu().numpy()
    return out


def _take(data: HeteroData, store: Any, name: str, index: Tensor) -> Any:
    value = store[name]
    if isinstance(value, Tensor):
        dim = data.__cat_dim__(name, value, store)
        return value.index_select(dim, index.to(value.device))
    if isinstance(value, np.ndarray):
        return value[index.cpu().numpy()]
    return [value[n] for n in index.tolist()]
