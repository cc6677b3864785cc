r"""All-ranking evaluation of user and item embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffmm_geo.ops.ranking import ItemRanker, expected_metrics
from diffmm_geo.recommender import Recommender
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import check_choice, check_edge_index, check_k
from diffmm_geo.utils.held_out import check_held_out

__all__ = ['evaluate', 'evaluate_cold']

CANDIDATES = ('all', 'cold')
BATCH_SIZE = 4096


@torch.no_grad()
def evaluate(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int | Sequence[int] = 20,
) -> dict[str, float]:
    r"""Ranks all items by the product of embeddings and averages the metrics
    of :mod:`torch_geometric.metrics` over users with a held-out item. For items
    of equal scores, the metrics are those to expect of a random order.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        exclude_edge_index (torch.Tensor, optional): The interactions to leave
            out of the ranking, usually the training set.
            (default: :obj:`None`)
        k (int or list[int], optional): The length of the ranking, or several
            lengths, which one ranking serves. (default: :obj:`20`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

    Returns:
        :obj:`{'recall@20': ..., 'precision@20': ..., 'ndcg@20': ...,
        'hit_ratio@20': ..., 'map@20': ..., 'mrr@20': ...}`, for each length

    Raises:
        ValueError: If nothing is held out, all of it is excluded, shapes or
            indices do not fit, embeddings are not finite, or :obj:`k` exceeds
            the number of items.

    Example:
        >>> import torch
        >>> from diffmm_geo.evaluation import evaluate
        >>> user_emb = torch.eye(2, 3)
        >>> item_emb = torch.tensor([[3.0, 0, 0], [2, 0, 0], [0, 1, 0]])
        >>> observed = torch.tensor([[0], [0]])
        >>> held_out = torch.tensor([[0, 1], [1, 2]])
        >>> evaluate(user_emb, item_emb, held_out, observed, k=1)['recall@1']
        1.0
    """
    recommender = Recommender(user_emb, item_emb, exclude_edge_index)
    lengths = _lengths(k, recommender.num_items)
    edge_label_index = check_edge_index(
        'edge_label_index',
        edge_label_index,
        *recommender.size,
        user_emb.device,
    )
    if edge_label_index.size(1) == 0:
        raise ValueError(
            "'edge_label_index' needs at least one interaction (got none)"
        )
    if recommender.exclude_edge_index is not None:
        check_held_out(
            'edge_label_index',
            edge_label_index,
            'exclude_edge_index',
            recommender.exclude_edge_index,
            recommender.num_items,
        )
    return mean_metrics(recommender, edge_label_index, lengths)


def _lengths(k: int | Sequence[int], num_items: int) -> list[int]:
    if not isinstance(k, (list, tuple, range)):
        return [check_k(k, num_items)]
    if len(k) == 0:
        raise ValueError(f"'k' needs at least one length (got {k!r})")
    return [check_k(length, num_items) for length in k]


@torch.no_grad()
def mean_metrics(
    recommender: Recommender, edge_label_index: Tensor, lengths: Sequence[int]
) -> dict[str, float]:
    r"""The metrics of :func:`evaluate`, without its checks."""
    ranker = ItemRanker(recommender.item_emb, max(lengths))
    label = CSR.from_edge_index(
        edge_label_index, recommender.size, coalesce=True
    )
    users = label.rowptr.diff().nonzero().view(-1)
    total: dict[str, Tensor] = {}
    for batch in users.split(BATCH_SIZE):
        ranking = ranker(
            recommender.user_emb[batch],
            label.take(batch),
            recommender.excluded(batch),
        )
        for name, x in expected_metrics(ranking, lengths).items():
            total[name] = total.get(name, 0.0) + x.sum()
    return {name: float(x) / users.numel() for name, x in total.items()}


def evaluate_cold(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    edge_index: Tensor,
    k: int | Sequence[int] = 20,
    candidates: str = 'all',
) -> dict[str, float]:
    r"""The metrics of :func:`evaluate` on cold items, which have no observed
    interaction.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        edge_label_index (torch.Tensor): The held-out interactions. Only
            interactions with cold items count.
        edge_index (torch.Tensor): The observed interactions, which are left out
            of the ranking.
        k (int or list[int], optional): As in :func:`evaluate`.
            (default: :obj:`20`)
        candidates (str, optional): The items to rank: :obj:`"all"` unobserved
            items, or only :obj:`"cold"` items. With the latter, it does not
            matter if the embeddings of cold items differ in norm from those of
            other items. (default: :obj:`"all"`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **edge_index:** :math:`(2, |\mathcal{E}|)`

    Raises:
        ValueError: If no interaction with a cold item is held out, shapes or
            indices do not fit, embeddings are not finite, or :obj:`k` exceeds
            the number of candidates.
    """
    check_choice('candidates', candidates, CANDIDATES)
    recommender = Recommender(user_emb, item_emb)
    size, device = recommender.size, user_emb.device
    edge_index = check_edge_index('edge_index', edge_index, *size, device)
    held_out = check_edge_index(
        'edge_label_index', edge_label_index, *size, device
    )
    cold = torch.ones(size[1], dtype=torch.bool, device=device)
    cold[edge_index[1]] = False
    user, item = held_out[:, cold[held_out[1]]]
    if user.numel() == 0:
        raise ValueError(
            "'edge_label_index' needs an interaction with an item that "
            "'edge_index' does not have (got none)"
        )
    if candidates == 'all':
        return evaluate(
            user_emb, item_emb, torch.stack([user, item]), edge_index, k
        )
    _lengths(k, int(cold.sum()))
    place = cold.cumsum(0) - 1
    return evaluate(
        user_emb, item_emb[cold], torch.stack([user, place[item]]), k=k
    )
