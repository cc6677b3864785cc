r"""Scorers in closed form. A trained model that does not surpass them has
learned little. Users without interactions score all items equally.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from diffmm_geo.ops import spmm
from diffmm_geo.utils.features import standardize

from .interactions import Interactions, in_blocks, power

Scorer = Callable[[Tensor], Tensor]


def popularity(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    user_exponent: float = 0.0,
) -> Scorer:
    r"""The weighted number of interactions, the same for every user

    .. math::
        s_{ui} = \sum_v d_v^{-a} x_{vi}.

    A higher exponent :math:`a` gives less weight to users with many
    interactions :math:`d_v`. With one, all users count the same.
    """
    x = Interactions(edge_index, num_users, num_items)
    scale = power(x.user_degree, -user_exponent).view(-1, 1)
    score = spmm(x.item_user, scale).view(1, -1)
    return lambda users: score.expand(users.numel(), -1)


def item_cosine(edge_index: Tensor, num_users: int, num_items: int) -> Scorer:
    r"""The item-based neighborhood method of `"Item-Based Top-N Recommendation
    Algorithms" <https://doi.org/10.1145/963770.963776>`_ with all items as
    neighbors

    .. math::
        \mathbf{s}_u = \mathbf{x}_u \mathbf{S} \qquad
        S_{ij} = \cos(\mathbf{x}_{:i}, \mathbf{x}_{:j})
        \quad (i \neq j) \qquad S_{ii} = 0.

    The similarities are never stored: a block of users takes two sparse
    products.
    """
    x = Interactions(edge_index, num_users, num_items)
    scale = power(x.item_degree, -0.5).view(-1, 1)
    same = torch.ones_like(x.user_degree)

    def score(users: Tensor) -> Tensor:
        return (x.hop(x.items_of(users) * scale, same) * scale).t()

    return in_blocks(score, num_users + num_items)


def user_cosine(edge_index: Tensor, num_users: int, num_items: int) -> Scorer:
    r"""The user-based neighborhood method of `"An Algorithmic Framework for
    Performing Collaborative Filtering"
    <https://doi.org/10.1145/312624.312682>`_ with all users as neighbors

    .. math::
        \mathbf{s}_u = \sum_{v \neq u} \cos(\mathbf{x}_u, \mathbf{x}_v) \,
        \mathbf{x}_v.
    """
    x = Interactions(edge_index, num_users, num_items)
    scale = power(x.user_degree, -0.5)

    def score(users: Tensor) -> Tensor:
        similarity = spmm(x.user_item, x.items_of(users))
        similarity *= scale.view(-1, 1) * scale[users]
        similarity[users, torch.arange(users.numel())] = 0.0
        return spmm(x.item_user, similarity).t()

    return in_blocks(score, num_users + num_items)


def ease(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    reg_weight: float = 50.0,
) -> Scorer:
    r"""The linear autoencoder of `"Embarrassingly Shallow Autoencoders for
    Sparse Data" <https://arxiv.org/abs/1905.03375>`_

    .. math::
        \mathbf{s}_u = \mathbf{x}_u \mathbf{B} \qquad
        B_{ij} = - \frac{P_{ij}}{P_{jj}} \quad (i \neq j) \qquad
        B_{ii} = 0 \qquad
        \mathbf{P} = {(\mathbf{X}^{\top} \mathbf{X} + \lambda
        \mathbf{I})}^{-1}.

    Its time is cubic in the number of items, and it takes 16 bytes for each
    pair of items.
    """
    x = Interactions(edge_index, num_users, num_items)
    columns = []
    for items in torch.arange(num_items, device=edge_index.device).split(256):
        users_of = x.item_user.pattern.take(items).dense(x.user_degree)
        columns.append(spmm(x.item_user, users_of.t()))
    p = torch.cat(columns, dim=1).double()
    p.diagonal().add_(reg_weight)
    p = torch.cholesky_inverse(torch.linalg.cholesky(p))
    p /= -p.diagonal().clone()
    weight = p.fill_diagonal_(0.0).float()

    def score(users: Tensor) -> Tensor:
        lists = x.user_item.pattern.take(users)
        return embedding_bag(
            *(lists.col, weight, lists.rowptr),
            mode='sum',
            include_last_offset=True,
        )

    return score


def feature_cosine(
    edge_index: Tensor, features: Tensor, num_users: int
) -> Scorer:
    r"""The cosine of an item's standardized features and those of the user's
    items

    .. math::
        s_{ui} = \cos \Big( \sum_{j \in \mathcal{N}(u)}
        \frac{\mathbf{x}_j}{\| \mathbf{x}_j \|}, \mathbf{x}_i \Big).

    Items without features (rows of zeros) score zero.
    """
    item = normalize(standardize(features).float(), dim=1)
    x = Interactions(edge_index, num_users, item.size(0))
    user = normalize(spmm(x.user_item, item), dim=1)
    return lambda users: user[users] @ item.t()
