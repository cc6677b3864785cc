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
    r"""The nodes of a type, in the order of their indices.

    Args:
        name (str): The name of the argument with identifiers, for errors.
        ids (list[str], optional): Their identifiers, if known.
        num_nodes (int): Their number.
        device (torch.device): The device of their indices.
    """

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
        r"""The indices of nodes, given a list, array or tensor of indices, or
        a list or array of identifiers.
        """
        if is_raw(values):
            ids = self._index_of_ids(name, values)
            return torch.tensor(ids, device=self.device)
        if not isinstance(values, Tensor):
            values = _vector(name, values)
        return check_index(name, values, self.num_nodes).to(self.device)

    def _index_of_ids(self, name: str, values: Any) -> list[int]:
        if self.ids is None:
            raise ValueError(
                f"'{name}' needs indices, as no identifiers are known "
                f'(got {describe(values)})'
            )
        values = [str(x) for x in values]
        for x in values:
            if x not in self._index:
                raise ValueError(
                    f"'{name}' needs known identifiers (got {x!r})"
                )
        return [self._index[x] for x in values]


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
    except ValueError:  # Lists of different lengths.
        array = np.asarray(None)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in 'iu':
        raise ValueError(
            f"'{name}' needs a list of node indices or identifiers "
            f'(got {describe(values)})'
        )
    return torch.from_numpy(array.astype(np.int64))
