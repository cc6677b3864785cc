r"""A random walk over interactions and graphs of similar items."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from diffmm_geo.ops import spmm
from diffmm_geo.sparse import CSR, SparseMatrix

from .floors import Scorer
from .interactions import Interactions, in_blocks, power

# Interactions added to each item, so that every item has some popularity.
PRIOR_INTERACTIONS = 0.1


def random_walk(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    hop_weights: Sequence[float] = (1.0, 3.0),
    user_exponent: float = 1.0,
    popularity_exponent: float = 0.25,
    smoothing: float = 0.02,
    item_graphs: Mapping[str, Tensor] | None = None,
    item_graph_weight: float = 0.03,
) -> Scorer:
    r"""A random walk over the user-item graph, as in `"Updatable, Accurate,
    Diverse, and Scalable Recommendations for Interactive Applications"
    <https://doi.org/10.1145/2955101>`_ (P3alpha and RP3beta). It starts at
    :math:`\mathbf{h}_0 = \mathbf{x}_u`. Each hop takes two steps, from items
    over users to other items

    .. math::
        \mathbf{h}_l = \mathbf{g} \mathbf{X}^{\top} \mathbf{D}_u^{-a}
        \mathbf{X} - \mathbf{g} \odot \mathrm{diag}(\mathbf{X}^{\top}
        \mathbf{D}_u^{-a} \mathbf{X}) \qquad
        \mathbf{g} = \mathbf{h}_{l-1} \mathbf{D}_i^{-b}.

    With the distributions :math:`\mathbf{p}_l = \mathbf{h}_l / \sum_i h_{li}`,
    the smoothed popularity :math:`\boldsymbol{\pi}`, and the distribution
    :math:`\mathbf{q}_m` over the neighbors of the user's items in the graph of
    modality :math:`m`, the score is

    .. math::
        \mathbf{s}_u = (1 - c - d) \frac{\sum_l w_l \mathbf{p}_l}{\sum_l w_l} +
        \frac{d}{M} \sum_m \mathbf{q}_m + c \, \boldsymbol{\pi}.

    It also reaches items without interactions. The popularity replaces a
    distribution that reaches no item.

    Args:
        edge_index (torch.Tensor): The observed interactions.
        num_users (int): The number of users.
        num_items (int): The number of items.
        hop_weights (list[float], optional): The weight :math:`w_l` of each hop.
            (default: :obj:`(1.0, 3.0)`)
        user_exponent (float, optional): The exponent :math:`a`. With one, each
            user passes on the mean mass of their items. (default: :obj:`1.0`)
        popularity_exponent (float, optional): The exponent :math:`b`. A higher
            one gives less weight to popular items. (default: :obj:`0.25`)
        smoothing (float, optional): The share :math:`c` of the popularity.
            (default: :obj:`0.02`)
        item_graphs (dict[str, torch.Tensor], optional): Edges between similar
            items of each modality, used in both directions.
            (default: :obj:`None`)
        item_graph_weight (float, optional): The share :math:`d` of similar
            items, if there are graphs. (default: :obj:`0.03`)
    """
    x = Interactions(edge_index, num_users, num_items)
    graphs = [_undirected(e, num_items) for e in (item_graphs or {}).values()]
    share = 1.0 - smoothing - (item_graph_weight if graphs else 0.0)
    popularity = (x.item_degree + PRIOR_INTERACTIONS).view(-1, 1)
    popularity = popularity / popularity.sum()
    user_scale = power(x.user_degree, -user_exponent)
    item_scale = power(x.item_degree, -popularity_exponent).view(-1, 1)

    def score(users: Tensor) -> Tensor:
        # Each column holds the mass of one user.
        items = x.items_of(users)
        out = (smoothing * popularity).expand_as(items).clone()
        mass = items
        for weight in hop_weights:
            mass = x.hop(mass * item_scale, user_scale)
            # A hop is linear: its scale does not matter to the next.
            mass = mass / _sum(mass)
            part = share * weight / sum(hop_weights)
            out.add_(_or(mass, popularity), alpha=part)
        for graph in graphs:
            mass = spmm(graph, items)
            part = item_graph_weight / len(graphs)
            out.add_(_or(mass / _sum(mass), popularity), alpha=part)
        return out.t()

    return in_blocks(score, num_users + 3 * num_items)


def _undirected(edge_index: Tensor, num_items: int) -> SparseMatrix:
    r"""Both directions of distinct edges. A mutual pair counts twice."""
    size = num_items, num_items
    lists = CSR.from_edge_index(edge_index, size, coalesce=True)
    row, col = lists.row, lists.col
    both = torch.cat([row, col]), torch.cat([col, row])
    return SparseMatrix.from_coo(*both, None, size)


def _sum(mass: Tensor) -> Tensor:
    r"""The sums of columns. A sum of zero becomes one."""
    total = mass.sum(dim=0)
    return total.masked_fill_(total == 0, 1.0)


def _or(mass: Tensor, popularity: Tensor) -> Tensor:
    return torch.where((mass > 0).any(dim=0), mass, popularity)
