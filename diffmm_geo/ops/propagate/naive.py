from torch import Tensor

from diffmm_geo.ops.spmm.backend import HalfStep
from diffmm_geo.ops.spmm.naive import Naive
from diffmm_geo.sparse import BipartiteAdj


def propagate_naive(
    adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The readable reference of :meth:`~diffmm_geo.ops.propagate`: gather,
    multiply, sum and add self-loops, with gradients by autograd.
    """
    (to_user, to_item), multiply = adj.matrices(), Naive()
    user = HalfStep(to_user.pattern, to_user.value, adj.user_loop)
    item = HalfStep(to_item.pattern, to_item.value, adj.item_loop)
    return multiply(user, x_item, x_user), multiply(item, x_user, x_item)
