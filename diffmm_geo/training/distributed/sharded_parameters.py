from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.fsdp._fully_shard._fsdp_collectives import (
    DefaultAllGather,
    DefaultReduceScatter,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from diffmm_geo.training.distributed.ranks import Ranks


class ShardedParameters:
    r"""The parameters of a module, split by rows among ranks with
    :func:`~torch.distributed.fsdp.fully_shard` (FSDP2): each rank holds its
    share of them, of their gradients and of what an optimiser knows of them.
    A forward pass gathers them and lets them go again, likewise a backward
    pass, which leaves each rank its rows of the gradients' sum.

    Args:
        module (torch.nn.Module): The module, the same on all ranks.
        ranks (Ranks): All processes, two at least.
        methods (list[str], optional): The methods, other than
            :obj:`forward`, that read parameters. (default: :obj:`()`)
    """

    def __init__(
        self,
        module: torch.nn.Module,
        ranks: Ranks,
        methods: Sequence[str] = (),
    ) -> None:
        self.ranks = ranks
        mesh = init_device_mesh(ranks.device.type, (ranks.size,))
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        assert isinstance(module, FSDPModule)
        self.module = module
        # An operation in place on what a forward pass returns would be lost:
        # losses have none.
        warnings.filterwarnings('ignore', 'FSDP2-wrapped module')
        for name in methods:
            register_fsdp_forward_method(module, name)
        # Each rank has its share of the loss: gradients are summed up.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
        module.set_custom_all_gather(_AllGather(ranks))
        module.set_custom_reduce_scatter(_ReduceScatter(ranks))

    @contextmanager
    def whole(self) -> Iterator[None]:
        r"""Within, the module has its whole parameters, to be read."""
        self.module.unshard()
        yield
        self.module.reshard()

    def gather(self, value: Any) -> Any:
        r"""A nested value with whole tensors, in the memory of the host, in
        place of those that are split.
        """

        def whole(x: DTensor) -> Tensor:
            out: Tensor = self.ranks._call(x.full_tensor)
            return out.cpu()

        return tree_map_only(DTensor, whole, value)

    def split_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        r"""The module's :obj:`state_dict`, whole, split as it is."""
        own = self.module.state_dict()
        return {name: _split(x, own[name]) for name, x in state.items()}

    def split_optimizer_state(
        self,
        optimizer: Optimizer,
        state: dict[str, Any],
    ) -> dict[str, Any]:
        r"""The :obj:`state_dict` of an optimiser of the module's parameters,
        whole, split as these are.
        """
        parameters = [p for g in optimizer.param_groups for p in g['params']]
        return {
            **state,
            'state': {
                n: {
                    key: _split(x, parameters[n])
                    if isinstance(x, Tensor) and x.dim() > 0
                    else x
                    for key, x in of.items()
                }
                for n, of in state['state'].items()
            },
        }


def _split(x: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return x
    return distribute_tensor(
        x.to(like.device),
        like.device_mesh,
        like.placements,
        src_data_rank=None,  # All ranks have it.
    )


# FSDP2's own, but a rank that has ended is named as such.


class _AllGather(DefaultAllGather):
    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ranks._call(super().__call__, *args, **kwargs)


class _ReduceScatter(DefaultReduceScatter):
    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ranks._call(super().__call__, *args, **kwargs)
