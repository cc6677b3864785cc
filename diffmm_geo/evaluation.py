r"""All-ranking evaluation of user and item embeddings."""

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

from diffmm_geo.ops import topk_items
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_k,
    check_matrix,
)

__all__ = ['evaluate', 'evaluate_cold']

METRICS = {
    'recall': LinkPredRecall,
    'precision': LinkPredPrecision,
    'ndcg': LinkPredNDCG,
    'hit_ratio': LinkPredHitRatio,
    'map': LinkPredMAP,
    'mrr': LinkPredMRR,
}
CANDIDATES = ('all', 'cold')
# Users ranked at a time.
BATCH_SIZE = 4096


@torch.no_grad()
def evaluate(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude_edge_index: Tensor | None = None,
    k: int = 20,
) -> dict[str, float]:
    r"""Ranks all items for every user with at least one held-out item, by
    the product of embeddings, and averages PyG's link prediction metrics over
    these users.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        exclude_edge_index (torch.Tensor, optional): The interactions left
            out of the ranking, usually those of training.
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
            embeddings are not finite, or :obj:`k` is larger than the number
            of items.

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
    num_users, num_items = _check_embeddings(user_emb, item_emb)
    k, device = check_k(k, num_items), user_emb.device
    edge_label_index = check_edge_index(
        'edge_label_index', edge_label_index, num_users, num_items, device
    )
    if edge_label_index.size(1) == 0:
        raise ValueError(
            "'edge_label_index' needs at least one held-out "
            'interaction (got none)'
        )
    exclude = None
    if exclude_edge_index is not None:
        exclude = ItemLists.from_edge_index(
            check_edge_index(
                'exclude_edge_index',
                exclude_edge_index,
                num_users,
                num_items,
                device,
            ),
            num_users,
        )

    metrics = LinkPredMetricCollection(
        {f'{name}@{k}': metric(k) for name, metric in METRICS.items()}
    )
    metrics = metrics.to(user_emb.device)
    # Sorted by user.
    row, col = torch.unique(edge_label_index, dim=1).contiguous()
    users, count = torch.unique_consecutive(row, return_counts=True)
    stops = count.cumsum(0).tolist()
    for start in range(0, users.numel(), BATCH_SIZE):
        batch = users[start : start + BATCH_SIZE]
        edges = slice(
            stops[start - 1] if start > 0 else 0,
            stops[start + batch.numel() - 1],
        )
        label = torch.searchsorted(batch, row[edges]), col[edges]
        index = topk_items(
            user_emb[batch],
            item_emb,
            k,
            exclude=None if exclude is None else exclude.take(batch),
        )
        # An item that is none matches no label, unlike -1.
        index.masked_fill_(index < 0, num_items)
        metrics.update(index, label)
    return {name: float(value) for name, value in metrics.compute().items()}


def evaluate_cold(
    user_emb: Tensor,
    item_emb: Tensor,
    edge_label_index: Tensor,
    edge_index: Tensor,
    k: int = 20,
    candidates: str = 'all',
) -> dict[str, float]:
    r"""The metrics of :func:`evaluate` on the held-out interactions with cold
    items only, which are those without an observed interaction.

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        edge_label_index (torch.Tensor): The held-out interactions, row 0
            users, row 1 items.
        edge_index (torch.Tensor): The observed interactions, which are left
            out of the ranking.
        k (int, optional): The length of the ranking. (default: :obj:`20`)
        candidates (str, optional): The items that are ranked.

            - :obj:`"all"`: all that a user has not interacted with: whether
              cold items make their way among the others.
            - :obj:`"cold"`: cold items only: whether the right ones come
              first among their like, which does not depend on how long their
              embeddings are compared to those of others.

            (default: :obj:`"all"`)

    Shapes:
        - **user_emb:** :math:`(|\mathcal{U}|, F)`
        - **item_emb:** :math:`(|\mathcal{I}|, F)`
        - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{test}}|)`
        - **edge_index:** :math:`(2, |\mathcal{E}|)`

    Returns:
        As :func:`evaluate`.

    Raises:
        ValueError: If no interaction with a cold item is held out, shapes or
            indices do not fit, embeddings are not finite, or :obj:`k` is
            larger than the number of candidates.
    """
    check_choice('candidates', candidates, CANDIDATES)
    num_users, num_items = _check_embeddings(user_emb, item_emb)
    device = user_emb.device
    edge_index = check_edge_index(
        'edge_index', edge_index, num_users, num_items, device
    )
    user, item = check_edge_index(
        'edge_label_index', edge_label_index, num_users, num_items, device
    )
    cold = torch.ones(num_items, dtype=torch.bool, device=item.device)
    cold[edge_index[1]] = False
    held_out = torch.stack([user, item])[:, cold[item]]
    if held_out.size(1) == 0:
        raise ValueError(
            "'edge_label_index' needs at least one interaction with an item "
            "that has none in 'edge_index' (got none)"
        )
    if candidates == 'all':
        return evaluate(user_emb, item_emb, held_out, edge_index, k)
    # Nothing to leave out: nobody has interacted with them.
    check_k(k, int(cold.sum()))
    held_out[1] = (cold.cumsum(0) - 1)[held_out[1]]
    return evaluate(user_emb, item_emb[cold], held_out, k=k)


def _check_embeddings(user_emb: Tensor, item_emb: Tensor) -> tuple[int, int]:
    check_matrix('user_emb', user_emb)
    check_matrix(
        'item_emb',
        item_emb,
        None,
        user_emb.size(1),
        dtype=user_emb.dtype,
        device=user_emb.device,
    )
    return user_emb.size(0), item_emb.size(0)
