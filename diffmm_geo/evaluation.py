r"""All-ranking evaluation of embeddings and of any scores, and the evaluation
of generated interactions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor

from diffmm_geo.ops.ranking import (
    block_height,
    expected_metrics,
    product_scorer,
)
from diffmm_geo.recommender import Recommender
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_int,
    check_k,
    describe,
)
from diffmm_geo.utils.held_out import check_held_out

__all__ = ['evaluate', 'evaluate_cold', 'generation_metrics']

#: Maps users :math:`(B)` to the scores of all items :math:`(B, I)`.
Scorer = Callable[[Tensor], Tensor]


@overload
def evaluate(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int | Sequence[int] = 20,
) -> dict[str, float]: ...


@overload
def evaluate(
    scorer: Scorer,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int | Sequence[int] = 20,
) -> dict[str, float]: ...


@torch.no_grad()
def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: D417
    r"""Ranks all items, by the product of embeddings or by the scores of any
    function, and averages the metrics of :mod:`torch_geometric.metrics` over
    users with a held-out item. Items of equal scores have no order: the metrics
    are expectations over random orders of these items.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        scorer (callable): In place of embeddings, any function of users that
            returns their scores of all items. It is called with blocks of
            distinct users, whose scores bound the memory.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        exclude_edge_index (torch.Tensor, optional): The interactions to leave
            out of the ranking, usually the training set.
            (default: :obj:`None`)
        k (int or list[int], optional): The length of the ranking, or several
            lengths. One ranking serves all lengths. (default: :obj:`20`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **scorer:** :math:`(B) \to (B, |\mathcal{I}|)`
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

    Returns:
        :obj:`{'recall@20': ..., 'precision@20': ..., 'ndcg@20': ...,
        'hit_ratio@20': ..., 'map@20': ..., 'mrr@20': ...}`, for each length

    Raises:
        ValueError: If nothing is held out, all held-out interactions are
            excluded, shapes or indices do not fit, embeddings are not finite,
            scores are not a number, or :obj:`k` exceeds the number of items.

    Example:
        >>> import torch
        >>> from diffmm_geo.evaluation import evaluate
        >>> user_emb = torch.eye(2, 3)
        >>> item_emb = torch.tensor([[3.0, 0, 0], [2, 0, 0], [0, 1, 0]])
        >>> observed = torch.tensor([[0], [0]])
        >>> held_out = torch.tensor([[0, 1], [1, 2]])
        >>> evaluate(user_emb, item_emb, held_out, observed, k=1)['recall@1']
        1.0
        >>> def scorer(user):
        ...     return user_emb[user] @ item_emb.t()
        >>> evaluate(scorer, held_out, observed, k=1)['recall@1']
        1.0
    """
    if 'scorer' in kwargs or (args and callable(args[0])):
        return _evaluate_scores(*args, **kwargs)
    return _evaluate_embeddings(*args, **kwargs)


def _evaluate_embeddings(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int | Sequence[int] = 20,
) -> dict[str, float]:
    recommender = Recommender(user_emb, item_emb, exclude_edge_index)
    exclude, size = recommender.exclude_edge_index, recommender.size
    held_out = _held_out(edge_label_index, *size, user_emb.device, exclude)
    return mean_metrics(recommender, held_out, _lengths(k, size[1]))


def _evaluate_scores(
    scorer: Scorer,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int | Sequence[int] = 20,
) -> dict[str, float]:
    if not callable(scorer):
        raise ValueError(
            f"'scorer' needs to be a function of users (got {describe(scorer)})"
        )
    user = _held_out(edge_label_index)[0, :1]
    # The first user tells the number of items.
    num_items = _scores(scorer, None, user).size(1)
    exclude = user.new_empty(2, 0)
    if exclude_edge_index is not None:
        exclude = check_edge_index(
            'exclude_edge_index', exclude_edge_index, None, num_items
        ).to(user.device)
    lengths = _lengths(k, num_items)
    user, item = _held_out(edge_label_index, None, num_items, None, exclude)
    # The scorer alone knows how many users there are.
    users, row = user.unique(return_inverse=True)
    place = torch.searchsorted(users, exclude[0].contiguous())
    place.clamp_(max=users.numel() - 1)
    is_asked = users[place] == exclude[0]
    label, seen = (
        CSR.from_edge_index(edges, (users.numel(), num_items), coalesce=True)
        for edges in (
            torch.stack([row, item]),
            torch.stack([place, exclude[1]])[:, is_asked],
        )
    )
    height = block_height(num_items, 1, users.device)
    scores = partial(_scores, scorer, num_items)
    return _mean_metrics(scores, users, label, seen, height, lengths)


def _scores(scorer: Scorer, num_items: int | None, users: Tensor) -> Tensor:
    score = scorer(users)
    if (
        not isinstance(score, Tensor)
        or not score.is_floating_point()
        or score.dim() != 2
        or score.size(0) != users.numel()
        or score.size(1) != (num_items or max(1, score.size(1)))
    ):
        raise ValueError(
            f"'scorer' needs to return floating point scores of shape "
            f'[{users.numel()}, {num_items or "num_items"}] '
            f'(got {describe(score)})'
        )
    if bool(score.isnan().any()):
        raise ValueError("'scorer' needs to return numbers (got NaN)")
    # Items are excluded in place.
    return score.clone()


def _held_out(
    edge_label_index: Tensor,
    num_users: int | None = None,
    num_items: int | None = None,
    device: torch.device | None = None,
    exclude: Tensor | None = None,
) -> Tensor:
    name = 'edge_label_index'
    out = check_edge_index(name, edge_label_index, num_users, num_items, device)
    if out.size(1) == 0:
        raise ValueError(f"'{name}' needs at least one interaction (got none)")
    if exclude is not None and num_items is not None:
        check_held_out(name, out, 'exclude_edge_index', exclude, num_items)
    return out


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
    user, item = recommender.user_emb, recommender.item_emb
    label = CSR.from_edge_index(
        edge_label_index, recommender.size, coalesce=True
    )
    users = label.rowptr.diff().nonzero().view(-1)
    return _mean_metrics(
        product_scorer(user, item),
        users,
        label.take(users),
        recommender.exclude.take(users),
        block_height(item.size(0), item.size(1), item.device),
        lengths,
    )


def _mean_metrics(
    scorer: Scorer,
    users: Tensor,
    label: CSR,
    exclude: CSR,
    height: int,
    lengths: Sequence[int],
) -> dict[str, float]:
    # A function, so that the scores of a block are freed before the next.
    def metrics(rows: slice, own: CSR, seen: CSR) -> dict[str, Tensor]:
        score = scorer(users[rows])
        seen = seen.to(score.device)
        score[seen.row, seen.col] = float('-inf')
        return expected_metrics(score, own.to(score.device), lengths)

    total: dict[str, float] = {}
    blocks = zip(label.blocks(height), exclude.blocks(height))
    for (rows, own), (_, seen) in blocks:
        for name, x in metrics(rows, own, seen).items():
            total[name] = total.get(name, 0.0) + float(x.sum())
    return {name: x / users.numel() for name, x in total.items()}


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
        user_emb (torch.Tensor): As in :func:`evaluate`.
        item_emb (torch.Tensor): As in :func:`evaluate`.
        edge_label_index (torch.Tensor): The held-out interactions. Only
            interactions with cold items count.
        edge_index (torch.Tensor): The observed interactions. The ranking
            leaves them out.
        k (int or list[int], optional): As in :func:`evaluate`.
            (default: :obj:`20`)
        candidates (str, optional): The items to rank: :obj:`"all"` unobserved
            items, or only :obj:`"cold"` items. Among cold items, it does not
            matter whether their embeddings differ in norm from those of other
            items. (default: :obj:`"all"`)

    Raises:
        ValueError: As in :func:`evaluate`, or if no interaction with a cold
            item is held out, or :obj:`k` exceeds the number of candidates.
    """
    check_choice('candidates', candidates, ('all', 'cold'))
    size, device = Recommender(user_emb, item_emb).size, user_emb.device
    edge_index = check_edge_index('edge_index', edge_index, *size, device)
    held_out = _held_out(edge_label_index, *size, device)
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
    place = cold.cumsum(0) - 1
    return evaluate(
        user_emb, item_emb[cold], torch.stack([user, place[item]]), k=k
    )


@torch.no_grad()
def generation_metrics(
    generated: Tensor,
    observed: Tensor,
    edge_label_index: Tensor,
    num_items: int,
) -> dict[str, float]:
    r"""Compares generated interactions :math:`\mathcal{G}` with observed
    interactions :math:`\mathcal{E}` and held-out interactions
    :math:`\mathcal{T}`

    .. math::
        \mathrm{recall} = \frac{1}{|\mathcal{U}_{\mathcal{T}}|}
        \sum_{u \in \mathcal{U}_{\mathcal{T}}} \frac{|\mathcal{G}_u \cap
        \mathcal{T}_u|}{|\mathcal{T}_u|} \qquad
        \mathrm{observed} = \frac{|\mathcal{G} \cap \mathcal{E}|}
        {|\mathcal{G}|}

    where :math:`\mathcal{U}_{\mathcal{T}}` are the users with held-out
    interactions. Repeated interactions count once.

    Args:
        generated (torch.Tensor): The generated interactions, row 0 users, row 1
            items.
        observed (torch.Tensor): The observed interactions.
        edge_label_index (torch.Tensor): The held-out interactions.
        num_items (int): The number of items.

    Shapes:
        - **generated:** :math:`(2, |\mathcal{G}|)`
        - **observed:** :math:`(2, |\mathcal{E}|)`
        - **edge_label_index:** :math:`(2, |\mathcal{T}|)`

    Returns:
        :obj:`{'recall': ..., 'observed': ..., 'distinct_items': ...}`. The last
        is the number of items with a generated interaction. A share of an empty
        set is zero.

    Raises:
        ValueError: If shapes or indices do not fit.

    Example:
        >>> import torch
        >>> from diffmm_geo.evaluation import generation_metrics
        >>> generated = torch.tensor([[0, 0, 1, 1], [1, 2, 2, 3]])
        >>> observed = torch.tensor([[0, 1], [2, 0]])
        >>> held_out = torch.tensor([[0, 1], [1, 1]])
        >>> generation_metrics(generated, observed, held_out, num_items=4)
        {'recall': 0.5, 'observed': 0.25, 'distinct_items': 3.0}
    """
    check_int('num_items', num_items)
    device, keys = None, []
    for name, edges in (
        ('generated', generated),
        ('observed', observed),
        ('edge_label_index', edge_label_index),
    ):
        user, item = check_edge_index(name, edges, None, num_items, device)
        keys.append((user * num_items + item).unique())
        device = user.device
    made, seen, held_out = keys
    hit = torch.isin(held_out, made).double()
    _, row, count = (held_out // num_items).unique(
        return_inverse=True, return_counts=True
    )
    share = hit / count[row]
    return {
        'recall': float(share.sum()) / max(1, count.numel()),
        'observed': float(torch.isin(made, seen).sum()) / max(1, made.numel()),
        'distinct_items': float((made % num_items).unique().numel()),
    }
