from collections.abc import Callable

from torch import Tensor

from diffmm_geo.ops.product import compute_dtype, matmul
from diffmm_geo.ops.ranking.equal_rows import equal_rows


def product_scorer(
    user_emb: Tensor, item_emb: Tensor
) -> Callable[[Tensor], Tensor]:
    r"""Scores all items for users, by the product of embeddings. Items of equal
    embeddings get equal scores, which a product alone does not guarantee: its
    rounding depends on an item's place.
    """
    dtype = compute_dtype(item_emb)
    item = item_emb.to(dtype)
    group, first = equal_rows(item)
    has_equal = first.numel() < item.size(0)
    item = item[first].t() if has_equal else item.t()

    def scorer(users: Tensor) -> Tensor:
        score = matmul(user_emb[users].to(dtype), item)
        return score.index_select(1, group) if has_equal else score

    return scorer
