from torch import Tensor

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.utils.checks import check_int, check_type


class DenoiserScorer(Scorer):
    r"""The scores from which :meth:`ModalityDiffusion.sample_edges
    <diffmm_geo.nn.ModalityDiffusion.sample_edges>` generates interactions: the
    row at the end of the reverse process, which starts from the user's
    interactions and adds no noise. They show how much a denoiser knows.

    Args:
        diffusion (ModalityDiffusion): The trained denoisers. Later training
            changes the scores.
        edge_index (torch.Tensor): The observed interactions, row 0 users,
            row 1 items.
        num_users (int): The number of users.
        modality (str): The modality.

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If a number or an index is out of range, the modality is
            unknown, or devices differ.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import ModalityDiffusion
        >>> from diffmm_geo.scorers import DenoiserScorer
        >>> diffusion = ModalityDiffusion(6, ['image'], hidden_channels=8)
        >>> edge_index = torch.tensor([[0, 0, 1], [1, 2, 1]])
        >>> scorer = DenoiserScorer(diffusion, edge_index, 2, 'image')
        >>> scorer(torch.tensor([1])).size()
        torch.Size([1, 6])
    """

    def __init__(
        self,
        diffusion: ModalityDiffusion,
        edge_index: Tensor,
        num_users: int,
        modality: str,
    ) -> None:
        check_type('diffusion', diffusion, ModalityDiffusion)
        check_int('num_users', num_users)
        # The diffusion of one modality, with shared parameters.
        self.diffusion = diffusion[modality]
        self.interactions = self.diffusion.item_lists(edge_index, num_users)
        super().__init__(
            num_users, diffusion.num_items, self.interactions.col.device
        )

    def score(self, user_index: Tensor) -> Tensor:
        like = self.diffusion.denoiser.item_weight
        x_start = self.interactions.take(user_index).dense(like)
        return self.diffusion.sample(x_start)
