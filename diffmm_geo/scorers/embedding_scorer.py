import torch
from torch import Tensor

from diffmm_geo.ops.product import matmul
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.utils.checks import check_finite, check_matrix, check_vector


class EmbeddingScorer(Scorer):
    r"""The product of user and item embeddings:

    .. math::
        s_{ui} = \mathbf{e}_u^{\top} \mathbf{e}_i + b_i

    Args:
        user_emb (torch.Tensor): The user embeddings.
        item_emb (torch.Tensor): The item embeddings.
        bias (torch.Tensor, optional): A bias :math:`b_i` of each item.
            (default: :obj:`None`)

    Shapes:
        - **user_emb:** :math:`(U, F)`
        - **item_emb:** :math:`(I, F)`
        - **bias:** :math:`(I)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If shapes, types or devices do not match, or a value is not
            finite.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import EmbeddingScorer
        >>> scorer = EmbeddingScorer(torch.ones(2, 4), torch.ones(3, 4))
        >>> scorer(torch.tensor([0, 1, 1])).size()
        torch.Size([3, 3])
    """

    def __init__(
        self, user_emb: Tensor, item_emb: Tensor, bias: Tensor | None = None
    ) -> None:
        self.user_emb = check_matrix('user_emb', user_emb).detach()
        like, channels = self.user_emb, self.user_emb.size(1)
        self.item_emb = check_matrix(
            'item_emb',
            item_emb,
            None,
            channels,
            dtype=like.dtype,
            device=like.device,
        ).detach()
        for name, x in (('user_emb', like), ('item_emb', self.item_emb)):
            if x.size(0) == 0:
                raise ValueError(f"'{name}' needs at least one row (got none)")
        super().__init__(like.size(0), self.item_emb.size(0), like.device)
        self.bias: Tensor | None = None
        if bias is not None:
            check_vector('bias', bias, self.num_items, like.device)
            check_finite('bias', bias)
            self.bias = bias.detach().to(like.dtype)

    @property
    def needs_interactions(self) -> bool:
        return True

    def score(self, user_index: Tensor) -> Tensor:
        query = self.user_emb[user_index]
        with torch.autocast(self.device.type, enabled=False):
            return matmul(query, self.item_emb.t(), self.bias)
