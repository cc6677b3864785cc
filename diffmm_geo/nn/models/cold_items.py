import torch
from torch import Tensor

from diffmm_geo.utils.checks import (
    check_edge_index,
    check_finite,
    check_matrix,
    check_number,
)


@torch.no_grad()
def rescale_cold_items(
    item_emb: Tensor, edge_index: Tensor, scale: float = 3.0
) -> Tensor:
    r"""Gives items without interactions embeddings of one length:

    .. math::
        \mathbf{e}_i^{\prime} = s \, \bar{n} \, \frac{\mathbf{e}_i}
        {\| \mathbf{e}_i \|}

    with the mean norm :math:`\bar{n}` of all other items. Items without
    interactions (cold items) are only negative items in training, which makes
    their embeddings short. The scale decides how often cold items rank above
    other items. If all items are cold, embeddings stay unchanged.

    Args:
        item_emb (torch.Tensor): The item embeddings.
        edge_index (torch.Tensor): The observed interactions, row 1 items.
        scale (float, optional): The length :math:`s`, as a multiple of the
            mean norm. (default: :obj:`3.0`)

    Shapes:
        - **item_emb:** :math:`(I, F)`
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **output:** :math:`(I, F)`

    Raises:
        ValueError: If a shape, an index or a number is wrong, or embeddings are
            not finite.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import rescale_cold_items
        >>> item_emb = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.1, 0.0]])
        >>> edge_index = torch.tensor([[0, 1], [0, 1]])
        >>> rescale_cold_items(item_emb, edge_index, scale=2.0)
        tensor([[3., 0.],
                [0., 1.],
                [4., 0.]])
    """
    item_emb = check_matrix('item_emb', item_emb)
    check_finite('item_emb', item_emb)
    num_items = item_emb.size(0)
    edge_index = check_edge_index('edge_index', edge_index, None, num_items)
    check_number('scale', scale, 0.0)
    cold = torch.ones(num_items, dtype=torch.bool, device=item_emb.device)
    cold[edge_index[1].to(cold.device)] = False
    norm = item_emb.norm(dim=1, keepdim=True)
    if cold.all():
        return item_emb
    length = scale * norm[~cold].mean() / norm.masked_fill(norm == 0, 1.0)
    return torch.where(cold.view(-1, 1), length * item_emb, item_emb)
