from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.scorers.interaction_scorer import (
    MAX_EXPONENT,
    InteractionScorer,
    power,
)
from diffmm_geo.sparse import CSR, SparseMatrix
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_keys,
    check_number,
    describe,
)

# Interactions added to each item, so that every item has some popularity.
PRIOR_INTERACTIONS = 0.1


class RandomWalk(InteractionScorer):
    r"""A random walk over the user-item graph, as in the `"Updatable,
    Accurate, Diverse, and Scalable Recommendations for Interactive
    Applications" <https://doi.org/10.1145/2955101>`_ paper (P3alpha and
    RP3beta). The walk starts at :math:`\mathbf{h}_0 = \mathbf{x}_u`. Each hop
    takes two steps, from items over users to other items,

    .. math::
        \mathbf{h}_l = \mathbf{g} \mathbf{X}^{\top} \mathbf{D}_u^{-a}
        \mathbf{X} - \mathbf{g} \odot \mathrm{diag}(\mathbf{X}^{\top}
        \mathbf{D}_u^{-a} \mathbf{X}) \qquad
        \mathbf{g} = \mathbf{h}_{l-1} \mathbf{D}_i^{-b},

    where :math:`\mathbf{D}_u` and :math:`\mathbf{D}_i` hold the degrees of
    users and items. A hop does not return to the item it came from. Dividing
    each :math:`\mathbf{h}_l` by its sum gives :math:`\mathbf{p}_l`, and the
    score is

    .. math::
        \mathbf{s}_u = (1 - c - d) \frac{\sum_l w_l \mathbf{p}_l}{\sum_l w_l} +
        \frac{d}{M} \sum_m \mathbf{q}_m + c \, \boldsymbol{\pi},

    where :math:`\boldsymbol{\pi}` is the smoothed popularity, and
    :math:`\mathbf{q}_m` is the distribution over the neighbors of the user's
    items in the graph of modality :math:`m`. The score therefore also reaches
    items without interactions. The popularity replaces a distribution that
    reaches no item, so that users without interactions get popular items.

    Args:
        edge_index (torch.Tensor): The observed interactions; see
            :class:`InteractionScorer`.
        num_users (int): The number of users.
        num_items (int): The number of items.
        hop_weights (list[float], optional): The weight :math:`w_l` of each hop.
            (default: :obj:`(1.0, 3.0)`)
        user_exponent (float, optional): The exponent :math:`a` in
            :math:`[0, 2]`. With one, each user passes on the mean mass of
            their items. (default: :obj:`1.0`)
        popularity_exponent (float, optional): The exponent :math:`b` in
            :math:`[0, 2]`. A higher exponent gives less weight to the user's
            popular items. (default: :obj:`0.25`)
        smoothing (float, optional): The positive share :math:`c` of the
            popularity. (default: :obj:`0.02`)
        item_graph_dict (dict[str, torch.Tensor], optional): Edges between
            similar items of each modality, used in both directions.
            (default: :obj:`None`)
        item_graph_weight (float, optional): The share :math:`d` of similar
            items. It is zero without :obj:`item_graph_dict`.
            (default: :obj:`0.03`)

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **item_graph_dict:** :math:`(2, \cdot)` each
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If a number or an index is out of range, or the shares add
            up to more than one.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import RandomWalk
        >>> edge_index = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]])
        >>> walk = RandomWalk(edge_index, 3, 4)
        >>> walk.recommend(torch.tensor([0]), 1, edge_index)
        tensor([[2]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        hop_weights: Sequence[float] = (1.0, 3.0),
        user_exponent: float = 1.0,
        popularity_exponent: float = 0.25,
        smoothing: float = 0.02,
        item_graph_dict: Mapping[str, Tensor] | None = None,
        item_graph_weight: float = 0.03,
    ) -> None:
        super().__init__(edge_index, num_users, num_items)
        self.hop_weights = _check_weights(hop_weights)
        self.user_exponent = check_number(
            'user_exponent', user_exponent, 0.0, MAX_EXPONENT
        )
        self.popularity_exponent = check_number(
            'popularity_exponent', popularity_exponent, 0.0, MAX_EXPONENT
        )
        self.smoothing = check_number(
            'smoothing', smoothing, 0.0, 1.0, low_open=True
        )
        if item_graph_dict is None:
            item_graph_dict = {}
        check_keys('item_graph_dict', item_graph_dict, [])
        most = 1.0 - self.smoothing if item_graph_dict else 1.0
        self.item_graph_weight = check_number(
            'item_graph_weight', item_graph_weight, 0.0, most
        )
        if not item_graph_dict:
            self.item_graph_weight = 0.0
        self.item_graphs = {
            m: self._item_graph(f"item_graph_dict['{m}']", edges)
            for m, edges in item_graph_dict.items()
        }
        smoothed = self.item_degree + PRIOR_INTERACTIONS
        self._popularity = (smoothed / smoothed.sum()).view(-1, 1)
        self._user_scale = power(self.user_degree, -self.user_exponent)
        self._item_scale = power(
            self.item_degree, -self.popularity_exponent
        ).view(-1, 1)

    @property
    def values_per_user(self) -> int:
        return self.num_users + 3 * self.num_items

    def score(self, user_index: Tensor) -> Tensor:
        items = self.items_of(user_index)
        share = 1.0 - self.smoothing - self.item_graph_weight
        # Each column holds the mass of one user.
        out = (self.smoothing * self._popularity).expand_as(items).clone()
        mass = items
        for weight in self.hop_weights:
            mass = self.hop(mass * self._item_scale, self._user_scale)
            # A hop is linear: its scale does not matter to the next.
            mass /= _sum(mass)
            part = share * weight / sum(self.hop_weights)
            out.add_(self._or_popularity(mass), alpha=part)
        for graph in self.item_graphs.values():
            mass = spmm(graph, items)
            mass /= _sum(mass)
            part = self.item_graph_weight / len(self.item_graphs)
            out.add_(self._or_popularity(mass), alpha=part)
        return out.t()

    def _or_popularity(self, mass: Tensor) -> Tensor:
        return torch.where((mass > 0).any(dim=0), mass, self._popularity)

    def _item_graph(self, name: str, edge_index: Tensor) -> SparseMatrix:
        size = self.num_items, self.num_items
        edge_index = check_edge_index(name, edge_index, *size, self.device)
        csr = CSR.from_edge_index(edge_index, size, coalesce=True)
        row, col = torch.cat([csr.row, csr.col]), torch.cat([csr.col, csr.row])
        return SparseMatrix.from_coo(
            row, col, None, size, check_invariants=False
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'hop_weights={self.hop_weights}, '
            f'user_exponent={self.user_exponent}, '
            f'popularity_exponent={self.popularity_exponent}, '
            f'smoothing={self.smoothing}, '
            f'item_graphs={list(self.item_graphs)}, '
            f'item_graph_weight={self.item_graph_weight})'
        )


def _sum(mass: Tensor) -> Tensor:
    r"""The sums of columns. A sum of zero becomes one."""
    total = mass.sum(dim=0)
    return total.masked_fill_(total == 0, 1.0)


def _check_weights(hop_weights: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(hop_weights, Sequence) or isinstance(hop_weights, str):
        raise ValueError(
            f"'hop_weights' needs to be a list of numbers "
            f'(got {describe(hop_weights)})'
        )
    weights = tuple(check_number('hop_weights', w, 0.0) for w in hop_weights)
    if sum(weights) <= 0:
        raise ValueError(
            f"'hop_weights' needs at least one positive number "
            f'(got {list(weights)})'
        )
    return weights
