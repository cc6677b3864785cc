r"""Generated edges to compare those of the diffusion with."""

import torch
from torch import Tensor

from diffmm_geo.utils.checks import check_k

GENERATORS = ('diffusion', 'random', 'observed')


def random_edges(
    num_users: int,
    num_items: int,
    k: int,
    device: torch.device | None = None,
) -> Tensor:
    r"""For each user, :obj:`k` distinct items drawn uniformly: as many edges,
    without any information.
    """
    k = check_k(k, num_items, 'num_edges_per_user')
    user = torch.arange(num_users, device=device)
    item = random_subsets(user, num_items, k).flatten()
    return torch.stack([user.repeat_interleave(k), item])


def random_subsets(row: Tensor, num_items: int, k: int) -> Tensor:
    r"""For each row, :obj:`k` distinct items, all subsets being equally
    likely, by Floyd's algorithm in all rows at once.
    """
    out = row.new_full((row.numel(), k), -1)
    for n, last in enumerate(range(num_items - k, num_items)):
        item = torch.randint(last + 1, row.shape, device=row.device)
        taken = (out == item[:, None]).any(dim=1)
        out[:, n] = item.masked_fill(taken, last)
    return out
