r"""Nodes by index or by an identifier of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.checks import check_index, describe
from diffmm_geo.utils.raw_ids import RawIds, check_raw_ids


class NodeIds:
    r"""The identifiers of nodes, in the order of their indices.

    Args:
        name (str): The name of the argument that lists them, for errors.
        ids (list[str]): The identifiers.
        num_nodes (int): The number of nodes.
    """

    def __init__(self, name: str, ids: Any, num_nodes: int) -> None:
        self.ids = check_raw_ids(name, ids, num_nodes)
        self._index = {x: n for n, x in enumerate(self.ids)}
        if len(self._index) != num_nodes:
            raise ValueError(
                f"'{name}' needs distinct strings (got {num_nodes}, "
                f'{len(self._index)} of them distinct)'
            )

    def lists(self, index: Tensor) -> list[list[str]]:
        r"""The identifiers of the indices in each row, without padding."""
        return [[self.ids[n] for n in row if n >= 0] for row in index.tolist()]

    def index(self, name: str, values: Sequence[str]) -> list[int]:
        r"""The indices of identifiers."""
        for x in values:
            if x not in self._index:
                raise ValueError(
                    f"'{name}' needs known identifiers (got {x!r})"
                )
        return [self._index[x] for x in values]


def is_raw(values: Any) -> bool:
    r"""Whether a list holds identifiers rather than indices."""
    if isinstance(values, np.ndarray):
        values = values.ravel()[:1].tolist()
    return (
        not isinstance(values, (str, Tensor))
        and isinstance(values, (Sequence, RawIds))
        and len(values) > 0
        and isinstance(values[0], str)
    )


def check_nodes(
    name: str,
    values: Any,
    num_nodes: int,
    ids: NodeIds | None,
    device: torch.device,
) -> Tensor:
    r"""Node indices from a list, array or tensor of indices, or from a list or
    array of identifiers.
    """
    if is_raw(values):
        if ids is None:
            raise ValueError(
                f"'{name}' needs indices, as no identifiers are known "
                f'(got {describe(values)})'
            )
        strings = [str(x) for x in values]
        return torch.tensor(ids.index(name, strings), device=device)
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError:  # Lists of different lengths.
            array = np.asarray(None)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in 'iu':
            raise ValueError(
                f"'{name}' needs a list of node indices or identifiers "
                f'(got {describe(values)})'
            )
        values = torch.from_numpy(array.astype(np.int64))
    return check_index(name, values, num_nodes).to(device)
