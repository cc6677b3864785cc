import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.checks import (
    check_edge_index,
    check_edge_type,
    check_type,
    describe,
)
from diffmm_geo.utils.interactions import count_nodes

from ._user_item_data import SPLITS


def from_random_link_split(
    train: HeteroData,
    val: HeteroData,
    test: HeteroData,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> HeteroData:
    r"""Combines the three graphs of PyG's
    :class:`~torch_geometric.transforms.RandomLinkSplit` into one user-item
    graph. All training interactions are observed, including those that only
    supervise (:obj:`disjoint_train_ratio`). Interactions that supervise
    validation and testing are held out. Sampled negatives (label :obj:`0`) are
    left out.

    Args:
        train (HeteroData): The graph for training.
        val (HeteroData): The graph for validation.
        test (HeteroData): The graph for testing.
        edge_type (tuple[str, str, str], optional): The edge type that was
            split. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the graphs are not from one split, in this order.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from torch_geometric.transforms import RandomLinkSplit
        >>> from diffmm_geo.datasets import from_random_link_split
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 5, 4
        >>> edge_index = torch.arange(20).view(1, -1).repeat(2, 1)
        >>> edge_type = ('user', 'interacts', 'item')
        >>> data[edge_type].edge_index = edge_index % torch.tensor([[5], [4]])
        >>> split = RandomLinkSplit(0.1, 0.2, edge_types=[edge_type])
        >>> from_random_link_split(*split(data))[edge_type]
        {'edge_index': ..., 'val_edge_label_index': ...}
    """
    edge_type = check_edge_type(edge_type)
    labels, size = {}, None
    known = torch.empty(2, 0, dtype=torch.long)
    for name, graph in (('train', train), ('val', val), ('test', test)):
        check_type(name, graph, HeteroData)
        got = count_nodes(graph, edge_type)
        if got != (size or got):
            raise ValueError(
                f"'{name}' needs {size} nodes, as 'train' has (got {got})"
            )
        size, store = got, graph[edge_type]
        edge_index = check_edge_index(
            f'{name}.edge_index', store.get('edge_index'), *size
        )
        # PyG's validation graph has all training edges. The test graph also
        # has the validation edges.
        keys = [e[0] * size[1] + e[1] for e in (known, edge_index)]
        others = int((~torch.isin(keys[0].to(keys[1]), keys[1])).sum())
        if others > 0:
            raise ValueError(
                f"'{name}' needs the edges and labels of the graph before as "
                f'its edges, as RandomLinkSplit returns them (got {others} '
                f'others)'
            )
        labels[name] = _positives(name, store, size)
        known = torch.cat([edge_index, labels[name]], dim=1)
    out = copy.copy(val)
    store = out[edge_type]
    for name in ('edge_label', 'edge_label_index'):
        for prefix in ('', 'pos_', 'neg_'):
            store.pop(f'{prefix}{name}', None)
    for name, split in zip(SPLITS[1:], ('val', 'test')):
        if labels[split].size(1) > 0:
            store[name] = labels[split]
    return out


def _positives(name: str, store: Any, size: tuple[int, int]) -> Tensor:
    # With `split_labels=True`, positives stand alone.
    key = 'pos_edge_label_index'
    key = key if key in store else 'edge_label_index'
    index = check_edge_index(f'{name}.{key}', store.get(key), *size)
    label = store.get('edge_label')
    if label is None:
        return index
    if not isinstance(label, Tensor) or label.size() != index.size()[1:]:
        raise ValueError(
            f"'{name}.edge_label' needs a label for each of the "
            f'{index.size(1)} edges (got {describe(label)})'
        )
    return index[:, label != 0]
