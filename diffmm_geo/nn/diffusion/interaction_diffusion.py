from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.utils.checks import (
    check_bool,
    check_int,
    check_matrix,
    check_number,
    check_type,
)


class InteractionDiffusion(torch.nn.Module):
    r"""The diffusion of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper (Section 3.2)
    for one modality, over each user's row of interactions
    :math:`\mathbf{a}_0 \in {\{ 0, 1 \}}^{I}`. Use
    :class:`~diffmm_geo.nn.ModalityDiffusion` for several modalities or large
    graphs.

    Args:
        num_items (int): The number of items :math:`I`.
        diffusion (GaussianDiffusion, optional): The diffusion process.
            (default: :class:`GaussianDiffusion` with its defaults)
        denoiser (Denoiser, optional): The denoiser.
            (default: one with :obj:`**denoiser_kwargs`)
        **denoiser_kwargs (optional): Additional arguments of
            :class:`~diffmm_geo.nn.Denoiser`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import InteractionDiffusion
        >>> diffusion = InteractionDiffusion(6, hidden_channels=8)
        >>> a_0 = torch.eye(3, 6)
        >>> item_emb, image_emb = torch.randn(6, 4), torch.randn(6, 4)
        >>> elbo, msi = diffusion.loss(a_0, item_emb, image_emb)
        >>> (elbo.mean() + 0.1 * msi.mean()).backward()
        >>> diffusion.sample(a_0).size()
        torch.Size([3, 6])
    """

    #: The class of :obj:`diffusion`, which a subclass may replace.
    process: type[torch.nn.Module] = GaussianDiffusion
    #: Arguments of the denoiser that differ from its own defaults.
    denoiser_defaults: Mapping[str, Any] = {}
    #: The default weight of the MSI term.
    msi_weight: float = 0.1
    diffusion: Any

    def __init__(
        self,
        num_items: int,
        diffusion: torch.nn.Module | None = None,
        denoiser: Denoiser | None = None,
        **denoiser_kwargs: Any,
    ) -> None:
        super().__init__()
        self.num_items = check_int('num_items', num_items)
        if diffusion is None:
            diffusion = self.process()
        if denoiser is None:
            kwargs = {**self.denoiser_defaults, **denoiser_kwargs}
            denoiser = Denoiser(num_items, **kwargs)
        check_type('diffusion', diffusion, self.process)
        check_type('denoiser', denoiser, Denoiser)
        self.diffusion, self.denoiser = diffusion, denoiser

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        self.denoiser.reset_parameters()

    def loss(
        self,
        x_start: Tensor,
        item_emb: Tensor | None = None,
        modality_emb: Tensor | None = None,
        msi_weight: float | None = None,
        t: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""The evidence lower bound (Equations 5 to 13) and the modality-aware
        signal injection (MSI, Equation 14) of each user

        .. math::
            \mathcal{L}_{\mathrm{elbo}} = \frac{w_t}{I} {\| \mathbf{a}_0 -
            \mathbf{\hat{a}}_0 \|}^2 \qquad
            \mathcal{L}_{\mathrm{msi}} = \frac{1}{F} {\| \mathbf{\hat{a}}_0
            \mathbf{F}_m - \mathbf{a}_0 \mathbf{E}_i \|}^2.

        The objective is the mean of the first plus :obj:`msi_weight` times the
        mean of the second (Equation 24). No gradient flows to the embeddings.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            item_emb (torch.Tensor, optional): The item embeddings
                :math:`\mathbf{E}_i`, which a weight of zero does not need.
                (default: :obj:`None`)
            modality_emb (torch.Tensor, optional): The projected features
                :math:`\mathbf{F}_m`. (default: :obj:`None`)
            msi_weight (float, optional): The weight of the MSI term. The
                returned MSI term is not multiplied by this weight, but is zero
                if the weight is zero.
                (default: :obj:`0.1`, or :obj:`0.0` if masked)
            t (torch.Tensor, optional): The step of each row.
                (default: :obj:`None`, uniform)
            noise (torch.Tensor, optional): The noise.
                (default: :obj:`None`, standard normal)

        Shapes:
            - **x_start, noise:** :math:`(B, I)`
            - **item_emb, modality_emb:** :math:`(I, F)`
            - **t:** :math:`(B)`
            - **output:** two vectors :math:`(B)`
        """
        weight = self.denoiser.item_weight
        check_matrix('x_start', x_start, None, self.num_items, like=weight)
        msi_weight = self.msi_weight if msi_weight is None else msi_weight
        self.check_msi(msi_weight, item_emb, modality_emb)
        if t is None:
            t = self.draw_steps(x_start.size(0))
        error, denoised = self.denoise(x_start, t, noise)
        if msi_weight == 0:
            return error, torch.zeros_like(error)
        assert item_emb is not None and modality_emb is not None
        msi = F.mse_loss(
            denoised @ modality_emb.detach(),
            x_start @ item_emb.detach(),
            reduction='none',
        )
        return error, msi.mean(dim=-1)

    def draw_steps(self, num_rows: int) -> Tensor:
        r"""A uniform step of each row."""
        device = self.denoiser.item_weight.device
        return torch.randint(
            self.diffusion.num_steps, (num_rows,), device=device
        )

    def denoise(
        self, x_start: Tensor, t: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        r"""The first term of :meth:`loss`, and the denoised rows."""
        out = self.denoiser(self.diffusion.q_sample(x_start, t, noise), t)
        elbo = F.mse_loss(out, x_start, reduction='none').mean(dim=-1)
        return self.diffusion.elbo_weight[t].to(elbo.dtype) * elbo, out

    @torch.no_grad()
    def sample(
        self,
        x_start: Tensor,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> Tensor:
        r"""Runs the reverse process (Equation 4). For
        :math:`t = T - 1, \ldots, 0`, it takes a posterior step from
        :math:`\mathbf{a}_t` and the denoised row :math:`\mathbf{\hat{a}}_0`.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            sampling_steps (int, optional): The number of forward steps before
                the reverse process. (default: :obj:`0`)
            sampling_noise (bool, optional): Whether to add posterior noise in
                every step but the last. (default: :obj:`False`)

        Shapes:
            - **x_start:** :math:`(B, I)`
            - **output:** :math:`(B, I)`, a score for every item
        """
        weight, num_steps = self.denoiser.item_weight, self.diffusion.num_steps
        check_matrix('x_start', x_start, None, self.num_items, like=weight)
        sampling_steps = check_int(
            'sampling_steps', sampling_steps, 0, num_steps
        )
        check_bool('sampling_noise', sampling_noise)
        training = self.denoiser.training
        self.denoiser.eval()  # No dropout.
        try:
            return self.reverse(x_start, sampling_steps, sampling_noise)
        finally:
            self.denoiser.train(training)

    def reverse(
        self, x_start: Tensor, sampling_steps: int, sampling_noise: bool
    ) -> Tensor:
        r"""Equals :meth:`sample`, without checks."""
        x_t = x_start
        if sampling_steps > 0:
            x_t = self.diffusion.q_sample(x_start, sampling_steps - 1)
        for t in reversed(range(self.diffusion.num_steps)):
            out, noise = self.denoiser(x_t, t), None
            if sampling_noise and t > 0:
                noise = torch.randn_like(x_t)
            x_t = self.diffusion.posterior_step(out, x_t, t, noise)
        return x_t

    def check_msi(
        self,
        msi_weight: float,
        item_emb: Tensor | None,
        modality_emb: Tensor | None,
    ) -> None:
        if check_number('msi_weight', msi_weight, 0.0) == 0:
            return
        like, num_items = self.denoiser.item_weight, self.num_items
        emb = check_matrix('item_emb', item_emb, num_items, like=like)
        size = num_items, emb.size(1)
        check_matrix('modality_emb', modality_emb, *size, like=like)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items})'
