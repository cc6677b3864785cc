r"""The state of sharded modules and optimizers as whole tensors, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from diffmm_geo.utils.ranks import Ranks, is_sharded

if TYPE_CHECKING:
    from collections.abc import Mapping


def whole_state(
    value: Any,
    ranks: Ranks,
    device: torch.device | str = 'cpu',
) -> Any:
    r"""Gathers the sharded tensors of a nested value onto a device. All other
    tensors stay as they are.
    """

    def whole(x: Tensor) -> Tensor:
        if not is_sharded(x):
            return x
        out: Tensor = ranks.call(x.full_tensor)  # type: ignore[attr-defined]
        return out.to(device)

    return tree_map_only(Tensor, whole, value) if ranks.size > 1 else value


def sharded_state(
    state: Mapping[str, Tensor],
    module: torch.nn.Module,
) -> dict[str, Tensor]:
    r"""Shards a module's whole :obj:`state_dict` as the module is."""
    own = module.state_dict()
    return {name: _shard(x, own.get(name)) for name, x in state.items()}


def sharded_optimizer_state(
    state: dict[str, Any],
    optimizer: Optimizer,
) -> dict[str, Any]:
    r"""Shards an optimizer's whole :obj:`state_dict` as its parameters are."""
    parameters = [p for g in optimizer.param_groups for p in g['params']]
    return {
        **state,
        'state': {
            n: {
                key: _shard(x, parameters[n]) if x.dim() > 0 else x
                for key, x in moments.items()
            }
            for n, moments in state['state'].items()
        },
    }


def _shard(x: Tensor, like: Tensor | None) -> Tensor:
    if like is None or not is_sharded(like):
        return x
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(
        x.to(like.device),
        like.device_mesh,
        like.placements,
        src_data_rank=None,  # All ranks have it.
    )
