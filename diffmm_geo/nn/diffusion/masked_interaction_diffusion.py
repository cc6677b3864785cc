import torch
from torch import Tensor

from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.ops.dense import unit_rows
from diffmm_geo.utils.checks import check_equal


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

    The terms of :obj:`loss` are the negative log-likelihood, divided by the
    user's number of interactions, so that each user counts once, and MSI of the
    expected row in place of the denoised row

    .. math::
        \mathcal{L}_{\mathrm{nll}} = - \frac{1}{|\mathcal{N}_u|}
        \sum_{i \in \mathcal{N}_u} \log \pi_i \qquad
        \mathcal{L}_{\mathrm{msi}} = \frac{1}{F} {\left\|
        |\mathcal{N}_u| \, \boldsymbol{\pi} \mathbf{F}_m - \mathbf{a}_0
        \mathbf{E}_i \right\|}^2.

    Both are zero for a user without interactions. In training, the softmax is
    over items with observed interactions if the denoiser has features: it would
    teach that others are never chosen. :obj:`sample` returns
    :math:`\log \boldsymbol{\pi}` from a single evaluation, so it takes no
    noise. It sees the whole row at :math:`t = 0` with zero steps.

    The arguments are those of :class:`~diffmm_geo.nn.InteractionDiffusion`,
    with a :class:`~diffmm_geo.nn.MaskedDiffusion` as :obj:`diffusion`. The
    defaults of the denoiser are :obj:`hidden_channels=200`,
    :obj:`dropout=0.0`, as masking drops interactions already, and
    :obj:`feature_channels=-1`.

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
    denoiser_defaults = {
        'hidden_channels': 200,
        'dropout': 0.0,
        'feature_channels': -1,
    }
    msi_weight = 0.0

    def denoise(
        self, x_start: Tensor, t: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        process = self.diffusion
        x_t = unit_rows(process.q_sample(x_start, t, noise))
        logit = self.denoiser(x_t * process.scale[t].view(-1, 1), t)
        observed = self.denoiser.observed
        if observed is not None:
            allowed = observed | (x_start > 0).any(dim=0)
            logit = logit.masked_fill(~allowed, float('-inf'))
        log_prob = logit.log_softmax(dim=-1)
        count = x_start.sum(dim=-1, keepdim=True)
        share = x_start / count.clamp(min=1)
        nll = -torch.where(share > 0, log_prob * share, 0.0).sum(dim=-1)
        return nll, count * log_prob.exp()

    def reverse(
        self, x_start: Tensor, sampling_steps: int, sampling_noise: bool
    ) -> Tensor:
        reason = 'a masked diffusion scores items in one evaluation'
        check_equal('sampling_noise', sampling_noise, False, reason)
        t, x_t = 0, unit_rows(x_start)
        if sampling_steps > 0:
            t = sampling_steps - 1
            x_t = unit_rows(self.diffusion.q_sample(x_start, t))
            x_t = x_t * self.diffusion.scale[t]
        out: Tensor = self.denoiser(x_t, t)
        return out.log_softmax(dim=-1)
