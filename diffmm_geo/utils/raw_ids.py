r"""The IDs of nodes as they came in: in graphs, in files, as arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.checks import as_int, check_index, describe


class RawIds:
    r"""The IDs of the nodes of a type as they came in, by node index. It is
    read like a list, and does not change.

    PyG's loaders would filter a list with an entry for each node, and fail.
    They, and :meth:`~torch_geometric.data.HeteroData.subgraph`, pass this
    object on, so that it stays that of the whole graph: the IDs of a batch are
    :obj:`raw_id[batch['item'].n_id]`.

    Args:
        ids (list[str]): The IDs.

    Example:
        >>> import torch
        >>> from diffmm_geo.datasets import RawIds
        >>> raw_id = RawIds(['tea', 'mug', 'pot'])
        >>> raw_id[1], raw_id[:2], raw_id[torch.tensor([2, 0])]
        ('mug', ['tea', 'mug'], ['pot', 'tea'])
        >>> raw_id == ['tea', 'mug', 'pot']
        True
    """

    # Not a `Sequence`: `data.to(device)` would make a list of it.
    def __init__(self, ids: Any) -> None:
        self._ids = list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        r"""The ID of a node, or the IDs of a slice, array, list or tensor."""
        if isinstance(index, slice) or as_int(index) is not None:
            return self._ids[index]
        index = torch.as_tensor(index)
        index = check_index('index', index, len(self)).tolist()
        return [self._ids[n] for n in index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RawIds):
            other = other._ids
        return self._ids == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({len(self)})'


# As lists, graphs with IDs load without executing code.
torch.serialization.add_safe_globals([RawIds])


def check_raw_ids(name: str, ids: Any, num_nodes: int) -> list[str]:
    r"""A list of a string for each node."""
    if not isinstance(ids, (list, tuple, RawIds)) or not all(
        isinstance(value, str) for value in ids
    ):
        raise ValueError(
            f"'{name}' needs to be a list of strings (got {describe(ids)})"
        )
    if len(ids) != num_nodes:
        raise ValueError(
            f"'{name}' needs {num_nodes} strings, one for each node "
            f'(got {len(ids)})'
        )
    return list(ids)


def encode_ids(ids: list[str]) -> Tensor:
    r"""The bytes of a list of strings."""
    content = json.dumps(ids).encode()
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def decode_ids(name: str, content: Tensor) -> Any:
    r"""The list that :func:`encode_ids` got."""
    try:
        return json.loads(content.cpu().numpy().tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"'{name}' needs to be a list of strings (got {error})"
        ) from None


class NodeIds:
    r"""Finds the nodes of a type by index or, if known, by identifier."""

    def __init__(
        self, name: str, ids: Any, num_nodes: int, device: torch.device
    ) -> None:
        self.num_nodes, self.device = num_nodes, device
        self.ids = None if ids is None else check_raw_ids(name, ids, num_nodes)
        self._index = {x: n for n, x in enumerate(self.ids or ())}
        if ids is not None and len(self._index) != num_nodes:
            raise ValueError(
                f"'{name}' needs distinct strings (got {num_nodes}, "
                f'{len(self._index)} of them distinct)'
            )

    def index(self, name: str, values: Any) -> Tensor:
        r"""The indices of nodes given by either, :obj:`name` in errors."""
        if not is_raw(values):
            if not isinstance(values, Tensor):
                values = _vector(name, values)
            return check_index(name, values, self.num_nodes).to(self.device)
        if self.ids is None:
            raise ValueError(
                f"'{name}' needs indices, as no identifiers are known "
                f'(got {describe(values)})'
            )
        try:
            index = [self._index[str(x)] for x in values]
        except KeyError as error:
            raise ValueError(
                f"'{name}' needs known identifiers (got {error})"
            ) from None
        return torch.tensor(index, device=self.device)


def is_raw(values: Any) -> bool:
    r"""Whether a list or array holds identifiers rather than indices."""
    if isinstance(values, np.ndarray):
        values = values.ravel()[:1].tolist()
    return (
        isinstance(values, (Sequence, RawIds))
        and not isinstance(values, str)
        and len(values) > 0
        and isinstance(values[0], str)
    )


def _vector(name: str, values: Any) -> Tensor:
    try:
        array = np.asarray(values)
        if array.size == 0 or array.dtype.kind in 'iu':
            array = array.astype(np.int64)
        return torch.from_numpy(array)
    except (TypeError, ValueError):  # Such as lists of different lengths.
        raise ValueError(
            f"'{name}' needs a list of node indices or identifiers "
            f'(got {describe(values)})'
        ) from None
