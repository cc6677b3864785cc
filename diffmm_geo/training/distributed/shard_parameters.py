from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
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

from diffmm_geo.utils.ranks import Ranks


def shard_parameters(
    module: torch.nn.Module,
    ranks: Ranks,
    methods: Sequence[str] = (),
) -> None:
    r"""Splits the parameters of a module by rows among ranks with
    :func:`~torch.distributed.fsdp.fully_shard` (FSDP2), in place. Each rank
    then holds its share of them, of their gradients and of the optimizer's
    moments. A forward pass gathers the parameters and frees them again, as
    does a backward pass, which leaves each rank its rows of the gradients'
    sum.

    Args:
        module (torch.nn.Module): The module, the same on all ranks.
        ranks (Ranks): All processes, at least two.
        methods (list[str], optional): The methods other than :obj:`forward`
            that read parameters. (default: :obj:`()`)
    """
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    assert isinstance(module, FSDPModule)
    # It warns of operations in place on outputs. Losses have none.
    warnings.filterwarnings('ignore', 'FSDP2-wrapped module')
    for name in methods:
        register_fsdp_forward_method(module, name)
    # Each rank has its share of the loss: gradients are summed.
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
    module.set_custom_all_gather(_AllGather(ranks))
    module.set_custom_reduce_scatter(_ReduceScatter(ranks))


# FSDP2's own, but they raise `LostRankError`.


class _AllGather(DefaultAllGather):
    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ranks.call(super().__call__, *args, **kwargs)


class _ReduceScatter(DefaultReduceScatter):
    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ranks.call(super().__call__, *args, **kwargs)
