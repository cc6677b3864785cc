import copy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Embedding, Parameter

from diffmm_geo.utils.checks import check_index, check_int, check_matrix

T = TypeVar('T', bound='NewItemsMixin')


class NewItemsMixin:
    r"""Methods of a model whose items also have features, for items that have
    no interactions.
    """

    num_items: int
    embedding_dim: int
    item_emb: Embedding

    def with_new_items(
        self: T,
        num_new_items: int,
        item_emb: Tensor | None = None,
    ) -> T:
        r"""A copy of the model with new items appended, which are scored by
        their features: they have no interactions and, unless given, ID
        embeddings of zero.

        Features then need rows for the new items. All graphs stay valid, and
        the embeddings of users and old items stay the same. A
        :class:`~diffmm_geo.nn.ModalityDiffusion` generates no interactions
        with items that it was not trained with.

        New items tend to rank high: averaging over neighbors shortens
        embeddings, and they have none. If they rank too high, use the mean ID
        embedding of items with a single interaction.

        Args:
            num_new_items (int): The number of new items.
            item_emb (torch.Tensor, optional): Their ID embeddings.
                (default: :obj:`None`)

        Shapes:
            - **item_emb:** :math:`(N, d)`
        """
        check_int('num_new_items', num_new_items)
        weight = self.item_emb.weight
        if item_emb is None:
            item_emb = weight.new_zeros(num_new_items, self.embedding_dim)
        check_matrix('item_emb', item_emb, num_new_items, self.embedding_dim)
        out = copy.deepcopy(self)
        out.num_items = self.num_items + num_new_items
        out.item_emb.num_embeddings = out.num_items
        out.item_emb.weight = Parameter(
            torch.cat([weight.detach(), item_emb.detach().to(weight)]),
            weight.requires_grad,
        )
        return out

    def without_item_emb(self: T, item_index: Tensor) -> T:
        r"""A copy of the model with ID embeddings of zero for some items, so
        that they are scored like :meth:`with_new_items`. Use it for items
        without interactions, which training saw only as negatives.

        Shapes:
            - **item_index:** :math:`(N)`
        """
        item_index = check_index('item_index', item_index, self.num_items)
        out = copy.deepcopy(self)
        with torch.no_grad():
            out.item_emb.weight[item_index] = 0.0
        return out
