import copy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Embedding, Parameter

from diffmm_geo.utils.checks import check_index, check_int, check_matrix

T = TypeVar('T', bound='NewItemsMixin')


class NewItemsMixin:
    r"""Adds items without interactions to a model with item features."""

    num_items: int
    embedding_dim: int
    item_emb: Embedding

    def with_new_items(
        self: T, num_new_items: int, item_emb: Tensor | None = None
    ) -> T:
        r"""Returns a copy of the model with new items. Their features determine
        their scores.

        Append rows for new items to the features. Graphs stay valid, and
        embeddings of users and old items do not change. A trained
        :class:`~diffmm_geo.nn.ModalityDiffusion` generates no interactions
        with new items.

        Averaging over neighbors shortens embeddings. New items have no
        neighbors, so they tend to rank high. If they rank too high, pass the
        mean ID embedding of items with a single interaction as their
        :obj:`item_emb`.

        Args:
            num_new_items (int): The number of new items.
            item_emb (torch.Tensor, optional): The ID embeddings of the new
                items. (default: :obj:`None`, zeros)

        Shapes:
            - **item_emb:** :math:`(N, d)`
        """
        num_new_items = check_int('num_new_items', num_new_items)
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
        r"""Returns a copy of the model in which the items :obj:`item_index`
        :math:`(N)` have zero ID embeddings. Use it for items without
        interactions, which occur in training only as negative items.
        """
        item_index = check_index('item_index', item_index, self.num_items)
        out = copy.deepcopy(self)
        with torch.no_grad():
            out.item_emb.weight[item_index] = 0.0
        return out
