import torch
from torch import Tensor


def exclude_items_(
    score: Tensor, row: Tensor, item: Tensor, start: int, num_items: int
) -> None:
    r"""Sets the scores of excluded items to :math:`-\infty`, in place.
    :obj:`score` holds the columns from :obj:`start` on.
    """
    width = score.size(1)
    if width == num_items:
        score[row, item] = float('-inf')
        return
    # Entries outside of the block add zero. Filtering them would synchronize
    # with the device.
    inside = (item >= start) & (item < start + width)
    column = (item - start).clamp_(0, width - 1)
    mask = torch.zeros(score.size(), dtype=torch.bool, device=score.device)
    mask.view(-1).index_add_(0, row * width + column, inside)
    score.masked_fill_(mask, float('-inf'))
