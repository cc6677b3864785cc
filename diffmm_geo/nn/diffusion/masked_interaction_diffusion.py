import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.utils.checks import (
    check_bool,
    check_equal,
    check_int,
    check_matrix,
)


class MaskedInteractionDiffusion(InteractionDiffusion):
    r"""An :class:`~diffmm_geo.nn.InteractionDiffusion` whose process is masked
    (`"Structured Denoising Diffusion Models in Discrete State-Spaces"
    <https://arxiv.org/abs/2107.03006>`_) and whose likelihood is multinomial
    (`"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_). The denoiser sees the rest
    :math:`\mathbf{a}_t` of a user's row, and outputs the logits of a
    distribution over items

    .. math::
        \boldsymbol{\pi} = \mathrm{softmax} \left( f_{\theta} \left(
        \frac{\mathbf{a}_t}{\sqrt{1 - p_t} \, \| \mathbf{a}_t \|}, t \right)
        \right).

    As in dropout, the factor :math:`1 / \sqrt{1 - p_t}` offsets the smaller
    sum of a masked row. It is one for a whole row.

    Args:
        num_items (int): The number of items :math:`I`.
        diffusion (MaskedDiffusion, optional): The diffusion process.
            (default: :class:`MaskedDiffusion` with its defaults)
        denoiser (Denoiser, optional): The denoiser.
            (default: one with :obj:`**denoiser_kwargs`)
        **denoiser_kwargs (optional): Additional arguments of
            :class:`~diffmm_geo.nn.Denoiser`. The default of :obj:`dropout` is
            :obj:`0.0`, as masking drops interactions already.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import MaskedInteractionDiffusion
        >>> diffusion = MaskedInteractionDiffusion(6, hidden_channels=8)
        >>> a_0 = torch.eye(3, 6)
        >>> loss, _ = diffusion.loss(a_0)
        >>> loss.mean().backward()
        >>> diffusion.sample(a_0).exp().sum(dim=1).allclose(torch.ones(3))
        True
    """

    process = MaskedDiffusion
    denoiser_defaults = {'dropout': 0.0}
    msi_weight = 0.0

    def loss(
        self,
        x_start: Tensor,
        item_emb: Tensor | None = None,
        modality_emb: Tensor | None = None,
        msi_weight: float = 0.0,
        t: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""The negative log-likelihood and the modality-aware signal injection
        (MSI) of each user. The likelihood is divided by the user's number of
        interactions, so that each user counts once. In MSI, the expected row
        takes the place of the denoised row

        .. math::
            \mathcal{L}_{\mathrm{nll}} = - \frac{1}{|\mathcal{N}_u|}
            \sum_{i \in \mathcal{N}_u} \log \pi_i \qquad
            \mathcal{L}_{\mathrm{msi}} = \frac{1}{F} {\left\|
            |\mathcal{N}_u| \, \boldsymbol{\pi} \mathbf{F}_m - \mathbf{a}_0
            \mathbf{E}_i \right\|}^2.

        Both are zero for a user without interactions. No gradient flows to the
        embeddings.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            item_emb (torch.Tensor, optional): The item embeddings
                :math:`\mathbf{E}_i`. (default: :obj:`None`)
            modality_emb (torch.Tensor, optional): The projected features
                :math:`\mathbf{F}_m`. (default: :obj:`None`)
            msi_weight (float, optional): The weight of the MSI term. The
                returned MSI term is not multiplied by this weight, but is zero
                if the weight is zero. (default: :obj:`0.0`)
            t (torch.Tensor, optional): The step of each row.
                (default: :obj:`None`, uniform)
            noise (torch.Tensor, optional): See
                :meth:`MaskedDiffusion.q_sample`. (default: :obj:`None`)

        Shapes:
            - **x_start, noise:** :math:`(B, I)`
            - **item_emb, modality_emb:** :math:`(I, F)`
            - **t:** :math:`(B)`
            - **output:** two vectors :math:`(B)`
        """
        weight, process = self.denoiser.item_weight, self.diffusion
        check_matrix('x_start', x_start, None, self.num_items, like=weight)
        self.check_msi(msi_weight, item_emb, modality_emb)
        if t is None:
            size = x_start.size()[:1]
            t = torch.randint(process.num_steps, size, device=weight.device)
        x_t = process.q_sample(x_start, t, noise)
        x_t = unit_rows(x_t) * process.scale[t].view(-1, 1)
        log_prob = self.denoiser(x_t, t).log_softmax(dim=-1)

        count = x_start.sum(dim=-1, keepdim=True)
        nll = -(log_prob * x_start / count.clamp(min=1)).sum(dim=-1)
        if msi_weight == 0:
            return nll, torch.zeros_like(nll)
        assert item_emb is not None and modality_emb is not None
        msi = F.mse_loss(
            count * log_prob.exp() @ modality_emb.detach(),
            x_start @ item_emb.detach(),
            reduction='none',
        )
        return nll, msi.mean(dim=-1)

    @torch.no_grad()
    def sample(
        self,
        x_start: Tensor,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> Tensor:
        r"""Returns the denoiser's log-probabilities
        :math:`\log \boldsymbol{\pi}` from a single evaluation.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            sampling_steps (int, optional): The number of forward steps. With
                zero steps, the denoiser sees the whole row at :math:`t = 0`.
                (default: :obj:`0`)
            sampling_noise (bool, optional): Needs to be :obj:`False`, as there
                are no steps to add noise to. (default: :obj:`False`)

        Shapes:
            - **x_start:** :math:`(B, I)`
            - **output:** :math:`(B, I)`, a score for every item
        """
        weight, num_steps = self.denoiser.item_weight, self.diffusion.num_steps
        check_matrix('x_start', x_start, None, self.num_items, like=weight)
        check_int('sampling_steps', sampling_steps, 0, num_steps)
        check_bool('sampling_noise', sampling_noise)
        reason = 'a masked diffusion scores items in one evaluation'
        check_equal('sampling_noise', sampling_noise, False, reason)
        t, x_t = 0, unit_rows(x_start)
        if sampling_steps > 0:
            t = sampling_steps - 1
            x_t = unit_rows(self.diffusion.q_sample(x_start, t))
            x_t = x_t * self.diffusion.scale[t]

        training = self.denoiser.training
        self.denoiser.eval()  # No dropout.
        try:
            out: Tensor = self.denoiser(x_t, t)
        finally:
            self.denoiser.train(training)
        return out.log_softmax(dim=-1)
