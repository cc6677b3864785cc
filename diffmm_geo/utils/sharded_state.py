r"""Gathers and shards the states of modules and optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from diffmm_geo.utils.ranks import Ranks, is_sharded


@contextmanager
def whole_parameters(module: torch.nn.Module) -> Iterator[None]:
    r"""Gathers the parameters of a sharded module, to read in the block."""
    fsdp: Any = module if hasattr(module, 'unshard') else None
    if fsdp is not None:
        fsdp.unshard()
    yield
    if fsdp is not None:
        fsdp.reshard()


def whole_state(value: Any, ranks: Ranks) -> Any:
    r"""Gathers the sharded tensors of a nested value in CPU memory."""

    def whole(x: Tensor) -> Tensor:
        if not is_sharded(x):
            return x
        out: Tensor = ranks.call(x.full_tensor)  # type: ignore[attr-defined]
        return out.cpu()

    return tree_map_only(Tensor, whole, value) if ranks.size > 1 else value


def sharded_state(
    state: Mapping[str, Tensor], module: torch.nn.Module
) -> dict[str, Tensor]:
    r"""Shards a whole :obj:`state_dict` like its module."""
    own = module.state_dict()
    return {name: _shard(x, own.get(name)) for name, x in state.items()}


def sharded_optimizer_state(
    state: dict[str, Any], optimizer: Optimizer
) -> dict[str, Any]:
    r"""Shards a whole :obj:`state_dict` like the optimizer's parameters."""
    parameters = [p for g in optimizer.param_groups for p in g['params']]
    return {
        **state,
        'state': {
            n: {key: _shard(x, parameters[n]) for key, x in moments.items()}
            for n, moments in state['state'].items()
        },
    }


def _shard(x: Any, like: Tensor | None) -> Any:
    if like is None or not is_sharded(like) or x.dim() == 0:
        return x
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(
        x.to(like.device),
        like.device_mesh,
        like.placements,
        src_data_rank=None,  # All ranks hold it.
    )
