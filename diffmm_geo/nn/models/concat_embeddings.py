from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffmm_geo.ops.device import block_size
from diffmm_geo.utils.checks import check_finite, check_matrix, describe

# Scores in a block on a CPU: 16 MiB.
BLOCK_SIZE = 2**22
# Users that the standard deviation is computed from.
NUM_USERS = 1024


@torch.no_grad()
def concat_embeddings(
    embeddings: Sequence[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    r"""Concatenates the embeddings of several models, so that their product is
    the sum of the models' scores:

    .. math::
        \mathbf{e}_u = \Big[ \frac{\mathbf{e}_u^{(1)}}{\sigma_1} \, \Big\| \,
        \dots \, \Big\| \, \frac{\mathbf{e}_u^{(N)}}{\sigma_N} \Big] \qquad
        \mathbf{e}_i = \big[ \mathbf{e}_i^{(1)} \, \big\| \, \dots \, \big\| \,
        \mathbf{e}_i^{(N)} \big]

    where :math:`\sigma_n` is the mean over users of the standard deviation of
    a user's scores. It is estimated from at most 1,024 users, evenly spread.
    Unlike :class:`~diffmm_geo.scorers.FusedScorer`, the result can be indexed
    and served as a single model.

    Args:
        embeddings (list[tuple[torch.Tensor, torch.Tensor]]): The embeddings of
            users and items of each model. Models may differ in size.

    Shapes:
        - **embeddings:** :math:`(U, F_n)` and :math:`(I, F_n)` each
        - **output:** :math:`(U, \sum_n F_n)` and :math:`(I, \sum_n F_n)`

    Raises:
        ValueError: If there is no model, a shape is wrong, or embeddings are
            not finite.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import concat_embeddings
        >>> first = torch.randn(4, 8), torch.randn(6, 8)
        >>> second = torch.randn(4, 3), torch.randn(6, 3)
        >>> user_emb, item_emb = concat_embeddings([first, second])
        >>> user_emb.size(), item_emb.size()
        (torch.Size([4, 11]), torch.Size([6, 11]))
    """
    if not isinstance(embeddings, list | tuple) or not embeddings:
        raise ValueError(
            f"'embeddings' needs to be a list of at least one pair of user and "
            f'item embeddings (got {describe(embeddings)})'
        )
    for n, pair in enumerate(embeddings):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(
                f"'embeddings[{n}]' needs to be a pair of user and item "
                f'embeddings (got {describe(pair)})'
            )
    size: tuple[int | None, int | None] = (None, None)
    users, items = [], []
    for n, (user_emb, item_emb) in enumerate(embeddings):
        names = f'embeddings[{n}][0]', f'embeddings[{n}][1]'
        user_emb = check_matrix(names[0], user_emb, size[0])
        channels = user_emb.size(1)
        item_emb = check_matrix(
            names[1], item_emb, size[1], channels, device=user_emb.device
        )
        check_finite(names[0], user_emb)
        check_finite(names[1], item_emb)
        size = user_emb.size(0), item_emb.size(0)
        users.append(user_emb / _deviation(user_emb, item_emb))
        items.append(item_emb)
    return torch.cat(users, dim=1), torch.cat(items, dim=1)


def _deviation(user_emb: Tensor, item_emb: Tensor) -> Tensor:
    r"""The mean over users of the standard deviation of their scores, or one if
    all scores are equal.
    """
    step = max(1, user_emb.size(0) // NUM_USERS)
    query = user_emb[::step][:NUM_USERS]
    size = block_size(BLOCK_SIZE, user_emb.device)
    height = max(1, size // max(1, item_emb.size(0)))
    std = torch.cat(
        [
            (block @ item_emb.t()).std(dim=1, correction=0)
            for block in query.split(height)
        ]
    ).mean()
    return std.where(std > 0, torch.ones_like(std))
