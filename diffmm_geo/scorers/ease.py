import torch
from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.device import block_size
from diffmm_geo.scorers.interaction_scorer import InteractionScorer
from diffmm_geo.scorers.scorer import BLOCK_SIZE
from diffmm_geo.utils.checks import check_int, check_number

# The inversion holds at most two matrices in double precision.
BYTES_PER_PAIR = 16
MAX_BYTES = 2**34
# Keeps the matrix positive definite in spite of rounding.
MIN_REG_WEIGHT = 1e-3


class EASE(InteractionScorer):
    r"""The linear autoencoder of the `"Embarrassingly Shallow Autoencoders for
    Sparse Data" <https://arxiv.org/abs/1905.03375>`_ paper, in closed form:

    .. math::
        \mathbf{s}_u = \mathbf{x}_u \mathbf{B} \qquad
        B_{ij} = - \frac{P_{ij}}{P_{jj}} \quad (i \neq j) \qquad
        B_{ii} = 0 \qquad
        \mathbf{P} = {(\mathbf{X}^{\top} \mathbf{X} + \lambda
        \mathbf{I})}^{-1}

    A Cholesky decomposition computes the inverse in double precision. Its time
    is cubic in the number of items, and it takes 16 bytes of memory for each
    pair of items. Users without interactions score all items zero.

    Args:
        edge_index (torch.Tensor): The observed interactions; see
            :class:`InteractionScorer`.
        num_users (int): The number of users.
        num_items (int): The number of items.
        reg_weight (float, optional): The L2 regularization :math:`\lambda`, at
            least :obj:`0.001`. (default: :obj:`50.0`)

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If a number or an index is out of range, or if the inverse
            would take more than 16 GiB.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import EASE
        >>> edge_index = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> EASE(edge_index, 2, 3, reg_weight=1.0)(torch.tensor([1]))
        tensor([[0.0000, 0.0000, 0.3333]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        reg_weight: float = 50.0,
    ) -> None:
        check_int('num_items', num_items)
        num_bytes = BYTES_PER_PAIR * num_items**2
        if num_bytes > MAX_BYTES:
            limit = int((MAX_BYTES / BYTES_PER_PAIR) ** 0.5)
            raise ValueError(
                f"'num_items' needs to be at most {limit}, as the inverse "
                f'takes {BYTES_PER_PAIR} bytes for each pair of items and at '
                f'most {MAX_BYTES:,} bytes in total (got {num_items}, which '
                f'take {num_bytes:,} bytes)'
            )
        super().__init__(edge_index, num_users, num_items)
        self.reg_weight = check_number('reg_weight', reg_weight, MIN_REG_WEIGHT)
        self.weight = self._weight()

    @torch.no_grad()
    def _weight(self) -> Tensor:
        # Overwrites matrices, to hold two at most.
        p = self._gram()
        p.diagonal().add_(self.reg_weight)
        p = torch.linalg.cholesky(p)
        p = torch.cholesky_inverse(p)
        p /= -p.diagonal().clone()
        return p.fill_diagonal_(0.0).float()

    def _gram(self) -> Tensor:
        r"""The product :math:`\mathbf{X}^{\top} \mathbf{X}` in blocks of
        columns. Its counts are exact.
        """
        item = torch.arange(self.num_items, device=self.device)
        out = torch.empty(
            self.num_items,
            self.num_items,
            dtype=torch.double,
            device=self.device,
        )
        size = block_size(BLOCK_SIZE, self.device)
        width = max(1, size // (self.num_users + self.num_items))
        for start in range(0, self.num_items, width):
            block = item[start : start + width]
            x = self.item_user.pattern.take(block).dense(self.user_degree)
            out[:, block] = spmm(self.item_user, x.t()).double()
        return out

    def score(self, user_index: Tensor) -> Tensor:
        return bag(self.user_item.pattern.take(user_index), self.weight)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'reg_weight={self.reg_weight})'
        )
