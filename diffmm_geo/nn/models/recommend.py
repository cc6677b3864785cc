from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.recommender import Recommender
from diffmm_geo.utils.checks import check_k


class RecommendMixin:
    r"""Recommends items with a model that takes features and graphs."""

    num_items: int
    __call__: Callable[..., Any]

    @torch.no_grad()
    def recommend(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: Mapping[Any, Any],
        k: int,
        exclude_edge_index: Tensor | None = None,
        user_index: Tensor | None = None,
    ) -> Tensor:
        r"""The top-:math:`k` items of users; see
        :meth:`diffmm_geo.recommender.Recommender.recommend`. Warns of users
        who have no interactions in :obj:`exclude_edge_index`, as their items
        are arbitrary.
        """
        check_k(k, self.num_items)
        user, item = self(feature_dict, edge_index_dict).values()
        recommender = Recommender(user, item, exclude_edge_index)
        out: Tensor = recommender.recommend(user_index, k)
        return out
