r"""TensorFloat-32, with which GPUs multiply in single precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# From Ampere on.
MIN_CAPABILITY = (8, 0)


def has_tf32(device: torch.device) -> bool:
    r"""Whether products on a device may round their inputs to TF32."""
    return (
        device.type == 'cuda'
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
    )


@contextmanager
def tf32_products(enabled: bool = True) -> Iterator[None]:
    r"""Within, CUDA products of single precision round their inputs to TF32.
    Afterwards, the setting is as it was.
    """
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    if enabled:
        settings.fp32_precision = 'tf32'
    try:
        yield
    finally:
        if enabled:
            settings.fp32_precision = before
