r"""Item embeddings without training."""

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR
from diffmm_geo.utils.features import center_and_scale


def spectral_embedding(lists: CSR, embedding_dim: int) -> Tensor:
    r"""The leading (at most :obj:`embedding_dim`) right singular vectors
    :math:`(|\mathcal{I}|, F)` of the normalized interactions
    :math:`(|\mathcal{U}|, |\mathcal{I}|)`, scaled by the square roots of their
    singular values.
    """
    user, item, (num_users, num_items) = lists.row, lists.col, lists.size
    edge_index = torch.stack([user, item])
    user_degree = torch.bincount(user, minlength=num_users).float()
    item_degree = torch.bincount(item, minlength=num_items).float()
    value = (user_degree[user] * item_degree[item]).rsqrt()
    matrix = torch.sparse_coo_tensor(
        edge_index, value, (num_users, num_items), check_invariants=False
    )
    rank = min(embedding_dim, num_users, num_items)
    _, scale, emb = torch.svd_lowrank(matrix.coalesce(), q=rank, niter=4)
    return emb * scale.sqrt()


def ridge_regression(x: Tensor, target: Tensor) -> Tensor:
    r"""Predicts targets :math:`(N, F)` from features :math:`(N, C)`, whose
    shift and scale do not matter.
    """
    mean, scale = center_and_scale(x)
    x = x.to(torch.promote_types(x.dtype, torch.float))
    x = (x - mean.to(x)) / scale.to(x)
    dtype = torch.promote_types(target.dtype, torch.float)
    x, target = x.to(dtype), target.to(dtype)
    gram = x.t() @ x
    gram.diagonal().add_(1e-2 * gram.diagonal().mean().clamp(min=1e-6))
    solution: Tensor = torch.linalg.solve(gram, x.t() @ target)
    return x @ solution
