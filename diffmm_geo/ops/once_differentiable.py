from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

T = TypeVar('T')


def once_differentiable(backward: Callable[..., T]) -> Callable[..., T]:
    r"""Decorates the backward pass of a fast form without a derivative of its
    own, and raises an error if there would have to be one. PyTorch's decorator
    of this name does so only if incoming gradients have a history, and drops
    terms of second derivatives otherwise.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> T:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a fast operation has no second derivative, as 'create_graph="
                "True' needs: the naive form has, e.g., under "
                "diffmm_geo.ops.backend('naive')"
            )
        return backward(ctx, *grads)

    return checked
