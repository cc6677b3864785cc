r"""The IDs of nodes as they came in, as values of tensor files."""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmm_geo.utils.checks import describe


def check_raw_ids(name: str, ids: Any, num_nodes: int) -> list[str]:
    r"""A list of a string for each node."""
    if not isinstance(ids, (list, tuple)) or not all(
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
