r"""Embeddings of users from outside, from the items that they like."""

import torch
from torch import Tensor

from diffmm_geo.ops.bag import bag
from diffmm_geo.sparse import CSR

# This share of the mean variance is added to each channel's variance.
RIDGE = 1e-3


def normalized_sum(liked: CSR, item_emb: Tensor) -> Tensor:
    r"""The sum of the embeddings of each row's items, over the square root of
    their number, in single precision at least.
    """
    dtype = torch.promote_types(item_emb.dtype, torch.float)
    count = liked.rowptr.diff().clamp(min=1).view(-1, 1)
    return bag(liked, item_emb.to(dtype)) / count.sqrt()


def fold_in_weight(liked: CSR, user_emb: Tensor, item_emb: Tensor) -> Tensor:
    r"""The ridge regression of the embeddings of users on the
    :func:`normalized_sum` of their items. Without items, it is the identity.

    Shapes:
        - **output:** :math:`(F, F)`
    """
    x, size = normalized_sum(liked, item_emb), item_emb.size(1)
    weight = torch.eye(size, dtype=torch.double, device=x.device)
    gram = (x.t() @ x).double()
    ridge = RIDGE * gram.trace() / size
    if float(ridge) > 0:
        target = (x.t() @ user_emb.to(x.dtype)).double()
        weight = torch.linalg.solve(gram + ridge * weight, target)
    return weight.to(x.dtype)
