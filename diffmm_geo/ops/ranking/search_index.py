r"""The top items of each query in an index of FAISS."""

import torch
from torch import Tensor
from torch_geometric.nn.pool.knn import KNNIndex

from diffmm_geo.ops.ranking.topk_items import topk_among
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import describe

# The limit of FAISS.
MAX_NEIGHBORS = 2048


def search_index(
    index: KNNIndex,
    kept: Tensor | None,
    query: Tensor,
    item: Tensor,
    k: int,
    exclude: CSR,
) -> tuple[Tensor, Tensor]:
    r"""Equals :func:`topk_among` if the index is exact. Queries that need more
    neighbors than FAISS returns get an exact search.
    """
    gone = exclude.col.new_empty(0)
    if kept is not None:
        gone = (~kept).nonzero().view(-1)
    few = exclude.rowptr.diff() + (gone.numel() + k) <= MAX_NEIGHBORS
    out = exclude.col.new_empty(query.size(0), k)
    score = query.new_empty(query.size(0), k)
    row = (~few).nonzero().view(-1)
    if row.numel() > 0:
        out[row], value = topk_among(
            kept, query[row], item, k, exclude.take(row)
        )
        score[row] = value.to(score.dtype)
    row = few.nonzero().view(-1)
    if row.numel() > 0:
        own = exclude.take(row)
        links = torch.stack([own.row, own.col])
        place = torch.arange(row.numel(), device=row.device)
        more = torch.cartesian_prod(place, gone).t().view(2, -1)
        links = torch.cat([links, more], dim=1).unique(dim=1)
        found = index.search(
            query[row].float(), k, links if links.numel() > 0 else None
        )
        assert isinstance(found.index, Tensor)
        out[row], value = found.index, found.score.to(score.dtype)
        score[row] = value.masked_fill(found.index < 0, float('-inf'))
    return out, score


def fill_index(index: KNNIndex, item: Tensor) -> None:
    r"""Checks an index, and adds the items to an empty one."""
    if not isinstance(index, KNNIndex):
        raise ValueError(
            f"'index' needs to be a KNNIndex of torch_geometric "
            f'(got {describe(index)})'
        )
    import faiss

    if index.numel == 0:
        index.add(item.float())
    size = item.size()
    if (index.numel, index.index.d) != size:
        raise ValueError(
            f"'index' needs to be empty or to hold {size[0]} items of "
            f'{size[1]} channels (got {index.numel} of {index.index.d})'
        )
    if index.index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(
            f"'index' needs inner products as its metric, such as "
            f'MIPSKNNIndex (got {type(index).__name__})'
        )
