r"""Where the edges of each modality come from, in each epoch: from the
diffusion, or, to compare with, from chance or the observed interactions.
"""

import torch
from torch import Tensor

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import check_k
from diffmm_geo.utils.ranks import Ranks

GENERATORS = ('diffusion', 'random', 'observed')


def diffusion_edges(
    diffusion: ModalityDiffusion,
    interactions: CSR,
    k: int,
    num_candidates: int | None = None,
    ranks: Ranks | None = None,
    exclude_observed: bool = False,
) -> dict[str, Tensor]:
    r"""The :obj:`k` items per user that each denoiser scores highest, out of
    :obj:`num_candidates` random items if given, and of the unobserved ones with
    :obj:`exclude_observed`. Each rank generates for its share of users.
    """
    ranks = ranks or Ranks()
    num_users, device = interactions.size[0], interactions.col.device
    candidates: Tensor | None = None
    if num_candidates is not None and num_candidates < diffusion.num_items:
        order = torch.randperm(diffusion.num_items, device=device)
        candidates = order[:num_candidates]
    users = torch.arange(num_users, device=device)
    own = ranks.share(num_users)
    if ranks.size > 1:
        interactions = interactions.take(users[own])
    out = {}
    for m in diffusion.modalities:
        edge_index = diffusion.sample_edges_of(
            m,
            interactions,
            k,
            candidates=candidates,
            exclude_observed=exclude_observed,
        )
        if ranks.size > 1:
            edge_index = _joined(edge_index, ranks, own.start, num_users, k)
        out[m] = edge_index
    return out


def _joined(
    edge_index: Tensor, ranks: Ranks, first: int, num_users: int, k: int
) -> Tensor:
    r"""The edges of all ranks, of which each has at most :obj:`k` for each of
    its users, the first of whom is :obj:`first`.
    """
    user, item = edge_index
    _, row, count = user.unique_consecutive(
        return_inverse=True, return_counts=True
    )
    place = torch.arange(user.numel(), device=user.device)
    place = place - (count.cumsum(0) - count)[row]
    items = user.new_zeros(num_users, k)
    items[user + first, place] = item + 1  # Zeros are no items.
    items = ranks.sum_(items)
    user, place = items.nonzero().t()
    return torch.stack([user, items[user, place] - 1])


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
