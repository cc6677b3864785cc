r"""All-ranking evaluation of embeddings and of scorers, and the evaluation of
generated interactions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from diffmm_geo.recommender import Recommender
from diffmm_geo.scorers import Scorer
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_int,
    check_k,
    check_type,
)

__all__ = [
    'evaluate',
    'evaluate_cold',
    'evaluate_scorer',
    'generation_metrics',
]

METRICS = {
    'recall': LinkPredRecall,
    'precision': LinkPredPrecision,
    'ndcg': LinkPredNDCG,
    'hit_ratio': LinkPredHitRatio,
    'map': LinkPredMAP,
    'mrr': LinkPredMRR,
}
CANDIDATES = ('all', 'cold')
BATCH_SIZE = 4096


@torch.no_grad()
def evaluate(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int = 20,
) -> dict[str, float]:
    r"""Ranks all items by the product of embeddings and averages PyG's link
    prediction metrics over users with a held-out item.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        exclude_edge_index (torch.Tensor, optional): The interactions to leave
            out of the ranking, usually the training set.
            (default: :obj:`None`)
        k (int, optional): The length of the ranking. (default: :obj:`20`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

    Returns:
        :obj:`{'recall@20': ..., 'precision@20': ..., 'ndcg@20': ...,
        'hit_ratio@20': ..., 'map@20': ..., 'mrr@20': ...}`

    Raises:
        ValueError: If nothing is held out, shapes or indices do not fit,
            embeddings are not finite, or :obj:`k` exceeds the number of items.

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
    k = check_k(k, recommender.num_items)
    size, device = recommender.size, user_emb.device
    held_out, users = _held_out(edge_label_index, size, device)
    batches = users.split(BATCH_SIZE)
    ranking = (recommender.recommend(batch, k) for batch in batches)
    return _metrics(held_out, batches, ranking, k)


@torch.no_grad()
def evaluate_scorer(
    scorer: Scorer,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int = 20,
) -> dict[str, float]:
    r"""The metrics of :func:`evaluate` for any scorer.

    Args:
        scorer (Scorer): The scorer.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        exclude_edge_index (torch.Tensor, optional): The interactions to leave
            out of the ranking, usually the training set.
            (default: :obj:`None`)
        k (int, optional): The length of the ranking. (default: :obj:`20`)

    Shapes:
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

    Raises:
        ValueError: If nothing is held out, indices do not fit, or :obj:`k`
            exceeds the number of items.

    Example:
        >>> import torch
        >>> from diffmm_geo.evaluation import evaluate_scorer
        >>> from diffmm_geo.scorers import Popularity
        >>> observed = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> held_out = torch.tensor([[1], [2]])
        >>> popularity = Popularity(observed, 2, 3)
        >>> evaluate_scorer(popularity, held_out, observed, k=1)['recall@1']
        1.0
    """
    check_type('scorer', scorer, Scorer)
    k = check_k(k, scorer.num_items)
    held_out, users = _held_out(edge_label_index, scorer.size, scorer.device)
    ranking = scorer.recommend(users, k, exclude_edge_index)
    batches = users.split(BATCH_SIZE)
    return _metrics(held_out, batches, ranking.split(BATCH_SIZE), k)


def _held_out(
    edge_label_index: Tensor, size: tuple[int, int], device: torch.device
) -> tuple[CSR, Tensor]:
    r"""The held-out items of each user, and the users who have any."""
    edge_label_index = check_edge_index(
        'edge_label_index', edge_label_index, *size, device
    )
    if edge_label_index.size(1) == 0:
        raise ValueError(
            "'edge_label_index' needs at least one interaction (got none)"
        )
    held_out = CSR.from_edge_index(edge_label_index, size, coalesce=True)
    return held_out, held_out.rowptr.diff().nonzero().view(-1)


def _metrics(
    held_out: CSR,
    batches: Iterable[Tensor],
    ranking: Iterable[Tensor],
    k: int,
) -> dict[str, float]:
    r"""The metrics of the top :obj:`k` items of each batch of users."""
    metrics = LinkPredMetricCollection(
        {f'{name}@{k}': metric(k) for name, metric in METRICS.items()}
    ).to(held_out.col.device)
    for batch, index in zip(batches, ranking):
        # PyG's metrics take -1 for the last item of the previous user.
        index.masked_fill_(index < 0, held_out.size[1])
        label = held_out.take(batch)
        metrics.update(index, (label.row, label.col))
    return {name: float(value) for name, value in metrics.compute().items()}


def evaluate_cold(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    edge_index: Tensor,
    k: int = 20,
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
        k (int, optional): The length of the ranking. (default: :obj:`20`)
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
    check_k(k, int(cold.sum()))
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
    r"""What generated interactions :math:`\mathcal{G}` know, given observed
    ones :math:`\mathcal{E}` and held-out ones :math:`\mathcal{T}`

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
        is the number of items with a generated interaction. Shares of nothing
        are zero.

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
    device = generated.device if isinstance(generated, Tensor) else None
    edges = {
        'generated': generated,
        'observed': observed,
        'edge_label_index': edge_label_index,
    }
    keys = []
    for name, edge_index in edges.items():
        user, item = check_edge_index(name, edge_index, None, num_items, device)
        keys.append((user * num_items + item).unique())
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
