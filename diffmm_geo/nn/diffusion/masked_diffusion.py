from typing import Any

import torch
from torch import Tensor

from diffmm_geo.utils.checks import (
    check_int,
    check_matrix,
    check_matrix_like,
    check_steps,
)


class MaskedDiffusion(torch.nn.Module):
    r"""The diffusion process with an absorbing state of the `"Structured
    Denoising Diffusion Models in Discrete State-Spaces"
    <https://arxiv.org/abs/2107.03006>`_ paper, over interactions. By step
    :math:`t`, it has dropped each interaction of a row with probability

    .. math::
        p_t = \frac{t + 1}{T + 1}, \quad t = 0, \ldots, T - 1.

    A dropped interaction stays dropped. The buffer :obj:`mask_prob` holds
    :math:`p_t`, and :obj:`scale` is :math:`{(1 - p_t)}^{-1/2}`.

    Args:
        num_steps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import MaskedDiffusion
        >>> diffusion = MaskedDiffusion(num_steps=3)
        >>> diffusion.mask_prob
        tensor([0.2500, 0.5000, 0.7500])
        >>> diffusion.q_sample(torch.eye(3, 6), 2).size()
        torch.Size([3, 6])
    """

    mask_prob: Tensor

    def __init__(self, num_steps: int = 5) -> None:
        super().__init__()
        self.num_steps = check_int('num_steps', num_steps)
        step = torch.arange(1, num_steps + 1)
        self.register_buffer('mask_prob', step / (num_steps + 1))

    @property
    def scale(self) -> Tensor:
        return (1 - self.mask_prob).rsqrt()

    @property
    def config(self) -> dict[str, Any]:
        r"""The constructor arguments."""
        return {'num_steps': self.num_steps}

    def q_sample(
        self, x_start: Tensor, t: int | Tensor, noise: Tensor | None = None
    ) -> Tensor:
        r"""Drops each interaction with the probability of its row's step.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            t (int or torch.Tensor): As in :meth:`GaussianDiffusion.q_sample`.
            noise (torch.Tensor, optional): Numbers in :math:`[0, 1)`. An
                interaction is dropped if its number is less than :math:`p_t`.
                (default: :obj:`None`, uniform)

        Shapes:
            - **x_start, noise, output:** :math:`(B, I)`
            - **t:** :math:`(B)`
        """
        device = self.mask_prob.device
        check_matrix('x_start', x_start, finite=False, device=device)
        t = check_steps(t, x_start.size(0), self.num_steps, device)
        if noise is None:
            noise = torch.rand_like(x_start)
        else:
            check_matrix_like('noise', noise, x_start, x_start.dtype)
        return x_start * (noise >= self.mask_prob[t].view(-1, 1))

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_steps})'
