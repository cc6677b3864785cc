r"""The observed interactions, as the floors need them."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.sparse import CSR, SparseMatrix

# A difference below this share of the returning mass is a rounding error.
ROUNDING = 1e-5


class Interactions:
    r"""The matrix :math:`\mathbf{X} \in {\{ 0, 1 \}}^{U \times I}`, its
    transpose, and the numbers of interactions of users and items.
    """

    def __init__(
        self, edge_index: Tensor, num_users: int, num_items: int
    ) -> None:
        size = num_users, num_items
        lists = CSR.from_edge_index(edge_index, size, coalesce=True)
        self.user_item = SparseMatrix.from_coo(lists.row, lists.col, None, size)
        self.item_user = self.user_item.t()
        self.user_degree = self.user_item.pattern.rowptr.diff().float()
        self.item_degree = self.item_user.pattern.rowptr.diff().float()

    def items_of(self, users: Tensor) -> Tensor:
        r"""The interactions of users as columns :math:`(I, B)`."""
        rows = self.user_item.pattern.take(users).dense(self.user_degree)
        return rows.t().contiguous()

    def hop(self, mass: Tensor, user_scale: Tensor) -> Tensor:
        r"""Moves mass :math:`\mathbf{H} \geq 0` of size :math:`(I, B)` from
        items over users to other items. None returns to the item it came from:

        .. math::
            \mathbf{X}^{\top} \mathbf{D} \mathbf{X} \mathbf{H} -
            \mathrm{diag}(\mathbf{X}^{\top} \mathbf{D} \mathbf{X}) \odot
            \mathbf{H}
        """
        scale = user_scale.view(-1, 1)
        out = spmm(self.item_user, spmm(self.user_item, mass) * scale)
        back = spmm(self.item_user, scale) * mass
        out -= back
        return out.masked_fill_(out <= ROUNDING * back, 0.0)


def power(degree: Tensor, exponent: float) -> Tensor:
    r"""A power of degrees. A degree of zero counts as one."""
    return degree.clamp(min=1.0).pow(exponent)


def in_blocks(
    score: Callable[[Tensor], Tensor], width: int
) -> Callable[[Tensor], Tensor]:
    r"""Scores few users at a time, with :obj:`width` values each."""
    height = max(1, 2**22 // width)
    return lambda users: torch.cat([score(x) for x in users.split(height)])
