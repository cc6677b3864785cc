r"""Checks of held-out interactions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

# Bits of the hash of an interaction, and interactions hashed at a time.
NUM_BITS = 24
CHUNK_SIZE = 2**22


def num_observed(
    held_out: Tensor, edge_index: Tensor, num_items: int
) -> tuple[int, int]:
    r"""The number of distinct held-out interactions that :obj:`edge_index` has
    as well, and the number of all distinct held-out interactions.
    """
    held_out = held_out.to(edge_index.device)
    key = (held_out[0] * num_items + held_out[1]).unique()
    if key.numel() == 0 or edge_index.numel() == 0:
        return 0, key.numel()
    # A table of hashes passes few others, so that few need a search.
    mask = 2**NUM_BITS - 1
    table = torch.zeros(mask + 1, dtype=torch.bool, device=key.device)
    table[key & mask] = True
    found = torch.zeros_like(key, dtype=torch.bool)
    for user, item in edge_index.split(CHUNK_SIZE, dim=1):
        other = user * num_items + item
        other = other[table[other & mask]]
        place = torch.searchsorted(key, other).clamp_(max=key.numel() - 1)
        found[place[key[place] == other]] = True
    return int(found.sum()), key.numel()


def check_held_out(
    name: str,
    held_out: Tensor,
    observed_name: str,
    observed: Tensor,
    num_items: int,
) -> None:
    r"""Held-out interactions, of which observed ones cannot be recommended.
    Warns if there are some of these.
    """
    shared, total = num_observed(held_out, observed, num_items)
    if shared == 0:
        return
    if shared == total:
        raise ValueError(
            f"'{name}' needs interactions that '{observed_name}' does not have "
            f'(got {total}, all of which it has): observed items are not '
            f'recommended'
        )
    warnings.warn(
        f"{shared} of {total} interactions in '{name}' are in "
        f"'{observed_name}', too. They count as misses, as observed items are "
        f'not recommended.',
        stacklevel=3,
    )


def check_splits(splits: Mapping[str, Tensor], num_items: int) -> None:
    r"""Observed interactions, followed by held-out ones of validation and
    testing, by name. Warns if the latter two are the same.
    """
    (observed_name, observed), *held_out = splits.items()
    for name, x in held_out:
        check_held_out(name, x, observed_name, observed, num_items)
    keys = [(x[0] * num_items + x[1]).unique() for _, x in held_out]
    if len(keys) == 2 and keys[0].numel() > 0 and keys[0].equal(keys[1]):
        warnings.warn(
            f"'{held_out[0][0]}' and '{held_out[1][0]}' are the same "
            f'interactions. Choosing the epoch by them overstates the metrics '
            f'of testing.',
            stacklevel=3,
        )
