from torch import Tensor

from diffmm_geo.ops.spmm.naive import Naive
from diffmm_geo.sparse import BipartiteAdj


def propagate_naive(
    adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The readable reference of :meth:`~diffmm_geo.ops.propagate`: gather,
    multiply, sum and add self-loops, with gradients by autograd.
    """
    (user, item), multiply = adj.matrices(), Naive()
    return (
        multiply(user.pattern, user.value, x_item, adj.user_loop, x_user),
        multiply(item.pattern, item.value, x_user, adj.item_loop, x_item),
    )
