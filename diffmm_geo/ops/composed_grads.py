from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def composed_grads(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    r"""The gradients of a function that consists of differentiable operations,
    which are differentiable themselves. A custom backward pass returns them
    if gradients are enabled, *i.e.*, with :obj:`create_graph=True`.

    Args:
        function (callable): The function.
        inputs (list[torch.Tensor]): Its inputs.
        grads (list[torch.Tensor]): The gradients of its outputs.
    """
    # An input may depend on another. Their aliases do not.
    inputs = [x.view_as(x) for x in inputs]
    found = iter(
        torch.autograd.grad(
            function(*inputs),
            [x for x in inputs if x.requires_grad],
            grads,
            create_graph=True,
            materialize_grads=True,
        )
    )
    return [next(found) if x.requires_grad else None for x in inputs]
