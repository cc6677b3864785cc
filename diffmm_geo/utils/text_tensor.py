r"""Lists of strings as tensors, for files that hold only tensors."""

import json
from typing import Any

import torch
from torch import Tensor


def to_text_tensor(strings: list[str]) -> Tensor:
    r"""The bytes of a JSON list."""
    return torch.frombuffer(
        bytearray(json.dumps(strings).encode()), dtype=torch.uint8
    )


def from_text_tensor(name: str, x: Tensor) -> Any:
    r"""The content of :func:`to_text_tensor`."""
    try:
        return json.loads(bytes(x.tolist()))
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"'{name}' needs the bytes of a JSON list") from None
