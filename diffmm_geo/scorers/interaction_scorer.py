from __future__ import annotations

from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.sparse import CSR, SparseMatrix
from diffmm_geo.utils.checks import check_edge_index, check_int

# A difference below this share of the returning mass is a rounding error.
ROUNDING = 1e-5
# Higher powers of degrees may vanish in single precision.
MAX_EXPONENT = 2.0


class InteractionScorer(Scorer):
    r"""The base class of scorers that know the observed interactions
    :math:`\mathbf{X} \in {\{ 0, 1 \}}^{U \times I}`.

    Args:
        edge_index (torch.Tensor): The observed interactions, row 0 users,
            row 1 items. Duplicates count once. Its device is the device of the
            scorer.
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`

    Raises:
        ValueError: If a number or an index is out of range.
    """

    def __init__(
        self, edge_index: Tensor, num_users: int, num_items: int
    ) -> None:
        size = (
            check_int('num_users', num_users),
            check_int('num_items', num_items),
        )
        edge_index = check_edge_index('edge_index', edge_index, *size)
        super().__init__(*size, edge_index.device)
        csr = CSR.from_edge_index(edge_index, size, coalesce=True)
        #: The interactions :math:`\mathbf{X}` and :math:`\mathbf{X}^{\top}`.
        self.user_item = SparseMatrix.from_coo(
            csr.row, csr.col, None, size, check_invariants=False
        )
        self.item_user = self.user_item.t()
        #: The numbers of interactions of users and of items.
        self.user_degree = self.user_item.pattern.rowptr.diff().float()
        self.item_degree = self.item_user.pattern.rowptr.diff().float()

    def items_of(self, user_index: Tensor) -> Tensor:
        r"""The interactions of users as columns.

        Shapes:
            - **user_index:** :math:`(B)`
            - **output:** :math:`(I, B)`
        """
        lists = self.user_item.pattern.take(user_index)
        return lists.dense(self.item_degree).t().contiguous()

    def hop(self, mass: Tensor, user_scale: Tensor) -> Tensor:
        r"""Moves mass from items over users to other items. No mass returns to
        the item it came from:

        .. math::
            \mathbf{X}^{\top} \mathbf{D} \mathbf{X} \mathbf{H} -
            \mathrm{diag}(\mathbf{X}^{\top} \mathbf{D} \mathbf{X}) \odot
            \mathbf{H}

        Args:
            mass (torch.Tensor): The mass :math:`\mathbf{H} \geq 0`.
            user_scale (torch.Tensor): The diagonal of :math:`\mathbf{D}`.

        Shapes:
            - **mass:** :math:`(I, B)`
            - **user_scale:** :math:`(U)`
            - **output:** :math:`(I, B)`
        """
        scale = user_scale.view(-1, 1)
        out = spmm(self.item_user, spmm(self.user_item, mass).mul_(scale))
        back = spmm(self.item_user, scale) * mass
        out -= back
        return out.masked_fill_(out <= ROUNDING * back, 0.0)


def power(degree: Tensor, exponent: float) -> Tensor:
    r"""A power of degrees. A degree of zero counts as one."""
    return degree.clamp(min=1.0).pow(exponent)
