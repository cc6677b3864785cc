import torch
from torch import Tensor
from torch.nn import Embedding

from diffmm_geo.nn.loss.bpr_loss import bpr_loss
from diffmm_geo.utils.checks import check_int


class MF(torch.nn.Module):
    r"""The matrix factorization model of the `"BPR: Bayesian Personalized
    Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper

    .. math::
        s_{ui} = {\mathbf{e}_u}^{\top} \mathbf{e}_i.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        embedding_dim (int, optional): The embedding size :math:`d`.
            (default: :obj:`64`)

    Shapes:
        - **output:** user embeddings :math:`(|\mathcal{U}|, d)` and item
          embeddings :math:`(|\mathcal{I}|, d)`

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import MF
        >>> model = MF(num_users=4, num_items=6, embedding_dim=8)
        >>> user_emb, item_emb = model()
        >>> user_emb.size(), item_emb.size()
        (torch.Size([4, 8]), torch.Size([6, 8]))
        >>> positives = torch.tensor([[0, 1], [2, 3]])
        >>> losses = model.loss(positives, torch.tensor([4, 5]))
        >>> sum(losses.values()).backward()
    """

    def __init__(
        self, num_users: int, num_items: int, embedding_dim: int = 64
    ) -> None:
        super().__init__()
        num_users = check_int('num_users', num_users)
        num_items = check_int('num_items', num_items)
        embedding_dim = check_int('embedding_dim', embedding_dim)
        self.user_emb = Embedding(num_users, embedding_dim)
        self.item_emb = Embedding(num_items, embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.user_emb.weight, self.item_emb.weight

    def loss(
        self,
        edge_label_index: Tensor,
        neg_item: Tensor,
        *,
        reg_weight: float = 1e-4,
    ) -> dict[str, Tensor]:
        r"""The terms of the training objective of a batch: the BPR loss and
        the regularization.

        Args:
            edge_label_index (torch.Tensor): Users and positive items.
            neg_item (torch.Tensor): A negative item for each positive item.
            reg_weight (float, optional): The weight of the squared norm of
                the batch's embeddings, divided by the batch size.
                (default: :obj:`1e-4`)

        Shapes:
            - **edge_label_index:** :math:`(2, B)`
            - **neg_item:** :math:`(B)`
            - **output:** scalars :obj:`"bpr"` and :obj:`"reg"`
        """
        user, positive = edge_label_index
        emb = (
            self.user_emb(user),
            self.item_emb(positive),
            self.item_emb(neg_item),
        )
        reg = torch.cat(emb, dim=-1).square().sum() / user.numel()
        return {'bpr': bpr_loss(*emb), 'reg': reg_weight * reg}

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.user_emb.num_embeddings}, '
            f'{self.item_emb.num_embeddings}, '
            f'embedding_dim={self.user_emb.embedding_dim})'
        )
