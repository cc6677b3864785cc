from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CREATE = (torch.rand, torch.randn, torch.randint, torch.randperm)
FILL = (Tensor.normal_, Tensor.random_, Tensor.uniform_)
LIKE = (torch.rand_like, torch.randn_like, torch.randint_like)


class CPURandom(TorchFunctionMode):
    r"""Draws all random numbers from the CPU's global stream, whatever device
    they are for, so that two devices compute on the same numbers. Calls with a
    generator of their own stay as they are.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get('generator') is not None:
            return func(*args, **kwargs)
        if func in CREATE:
            device = kwargs.pop('device', None)
            return func(*args, **kwargs).to(device or 'cpu')
        if func in LIKE:
            x, *rest = args
            return func(x.cpu(), *rest, **kwargs).to(x.device)
        if func in FILL:
            x, *rest = args
            cpu = torch.empty_like(x, device='cpu')
            return x.copy_(func(cpu, *rest, **kwargs))
        return func(*args, **kwargs)
