from typing import Any

import torch
from torch import Tensor

from diffmm_geo.utils.checks import (
    check_int,
    check_matrix,
    check_matrix_like,
    check_number,
    check_steps,
)


class GaussianDiffusion(torch.nn.Module):
    r"""The Gaussian diffusion process of the `"DiffMM: Multi-Modal Diffusion
    Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper
    (Section 3.2), with the linear variance schedule of the `"Diffusion
    Recommender Model" <https://arxiv.org/abs/2304.04971>`_ paper

    .. math::
        1 - \bar{\alpha}_t = s \cdot \left( \alpha_{\min} + \frac{t}{T - 1}
        (\alpha_{\max} - \alpha_{\min}) \right), \quad t = 0, \ldots, T - 1

        \beta_0 = 10^{-4}, \quad
        \beta_t = \min \left( 1 - \frac{\bar{\alpha}_t}{\bar{\alpha}_{t-1}},
        0.999 \right), \quad
        \bar{\alpha}_t = \prod_{s=0}^{t} (1 - \beta_s)

    The schedule is computed in double precision and then cast. The buffers hold
    one value per step: :obj:`betas`, :obj:`alphas_cumprod`,
    :obj:`sqrt_alphas_cumprod`, :obj:`sqrt_one_minus_alphas_cumprod`,
    :obj:`posterior_variance`, :obj:`posterior_log_variance_clipped`,
    :obj:`posterior_mean_coef1`, :obj:`posterior_mean_coef2`, and
    :obj:`elbo_weight` (Equation 11). The latter is :math:`1` at :math:`t = 0`,
    and otherwise :math:`\mathrm{SNR}(t - 1) - \mathrm{SNR}(t)` with
    :math:`\mathrm{SNR}(t) = \bar{\alpha}_t / (1 - \bar{\alpha}_t)`.

    Args:
        num_steps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): The noise scale :math:`s`.
            (default: :obj:`0.1`)
        noise_min (float, optional): The lower bound :math:`\alpha_{\min}` of
            the noise. (default: :obj:`1e-4`)
        noise_max (float, optional): The upper bound :math:`\alpha_{\max}` of
            the noise. (default: :obj:`0.02`)

    Raises:
        ValueError: If an argument is out of range, or the noise at the last
            step reaches one.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import GaussianDiffusion
        >>> diffusion = GaussianDiffusion(num_steps=5)
        >>> diffusion.betas.size()
        torch.Size([5])
        >>> a_0 = torch.eye(3, 6)  # Three users, six items.
        >>> a_t = diffusion.q_sample(a_0, torch.tensor([0, 2, 4]))
        >>> a_t.size()
        torch.Size([3, 6])
    """

    betas: Tensor
    alphas_cumprod: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    elbo_weight: Tensor

    def __init__(
        self,
        num_steps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
    ) -> None:
        super().__init__()
        self.num_steps = check_int('num_steps', num_steps)
        self.noise_scale = check_number('noise_scale', noise_scale, 0.0)
        self.noise_min = check_number('noise_min', noise_min, 0.0)
        self.noise_max = check_number('noise_max', noise_max, self.noise_min)
        if self.noise_scale * self.noise_max >= 1:
            raise ValueError(
                f"'noise_scale' times 'noise_max' needs to be less than 1 "
                f'(got {self.noise_scale * self.noise_max})'
            )

        for name, value in self._schedule().items():
            self.register_buffer(name, value.to(torch.get_default_dtype()))

    @property
    def config(self) -> dict[str, Any]:
        r"""The constructor arguments."""
        names = 'num_steps', 'noise_scale', 'noise_min', 'noise_max'
        return {name: getattr(self, name) for name in names}

    def _schedule(self) -> dict[str, Tensor]:
        alpha_bar = 1 - torch.linspace(
            self.noise_scale * self.noise_min,
            self.noise_scale * self.noise_max,
            self.num_steps,
            dtype=torch.double,
        )
        betas = torch.full_like(alpha_bar, 1e-4)
        betas[1:] = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)

        alphas_cumprod = (1 - betas).cumprod(0)
        previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
        noise = 1 - alphas_cumprod
        variance = betas * (1 - previous) / noise
        # The variance is zero at t = 0.
        clipped = variance.clone()
        clipped[0] = variance[min(1, self.num_steps - 1)]
        snr = alphas_cumprod / noise
        elbo_weight = torch.ones_like(snr)
        elbo_weight[1:] = snr[:-1] - snr[1:]
        return {
            'betas': betas,
            'alphas_cumprod': alphas_cumprod,
            'sqrt_alphas_cumprod': alphas_cumprod.sqrt(),
            'sqrt_one_minus_alphas_cumprod': noise.sqrt(),
            'posterior_variance': variance,
            'posterior_log_variance_clipped': clipped.clamp(
                min=torch.finfo(torch.float).tiny
            ).log(),
            'posterior_mean_coef1': betas * previous.sqrt() / noise,
            'posterior_mean_coef2': (1 - previous) * (1 - betas).sqrt() / noise,
            'elbo_weight': elbo_weight,
        }

    def q_sample(
        self, x_start: Tensor, t: int | Tensor, noise: Tensor | None = None
    ) -> Tensor:
        r"""Diffuses each row to its step (Equations 1 and 2)

        .. math::
            \mathbf{a}_t = \sqrt{\bar{\alpha}_t} \, \mathbf{a}_0 +
            \sqrt{1 - \bar{\alpha}_t} \, \boldsymbol{\epsilon}.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            t (int or torch.Tensor): The step of each row, or one step for all
                rows.
            noise (torch.Tensor, optional): The noise
                :math:`\boldsymbol{\epsilon}`.
                (default: :obj:`None`, standard normal)

        Shapes:
            - **x_start, noise, output:** :math:`(B, I)`
            - **t:** :math:`(B)`

        Raises:
            ValueError: If shapes, types or devices do not match, or a step is
                out of range.
        """
        check_matrix('x_start', x_start, finite=False, device=self.betas.device)
        t = check_steps(t, x_start.size(0), self.num_steps, self.betas.device)
        if noise is None:
            noise = torch.randn_like(x_start)
        else:
            check_matrix_like('noise', noise, x_start, x_start.dtype)
        signal = _rows(self.sqrt_alphas_cumprod[t], x_start)
        scale = _rows(self.sqrt_one_minus_alphas_cumprod[t], x_start)
        return (signal * x_start).addcmul(scale, noise)

    def posterior_step(
        self,
        x_start: Tensor,
        x_t: Tensor,
        t: int | Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        r"""One step of the reverse process (Equation 4), a sample of the
        posterior :math:`q(\mathbf{a}_{t-1} | \mathbf{a}_t, \mathbf{a}_0)`

        .. math::
            \mathbf{a}_{t-1} = \boldsymbol{\mu}_t + \tilde{\sigma}_t \,
            \boldsymbol{\epsilon}

            \boldsymbol{\mu}_t = \frac{\beta_t \sqrt{\bar{\alpha}_{t-1}}}
            {1 - \bar{\alpha}_t} \, \mathbf{a}_0 + \frac{(1 -
            \bar{\alpha}_{t-1}) \sqrt{1 - \beta_t}}{1 - \bar{\alpha}_t} \,
            \mathbf{a}_t, \quad \tilde{\sigma}_t^2 = \beta_t \frac{1 -
            \bar{\alpha}_{t-1}}{1 - \bar{\alpha}_t}.

        The step at :math:`t = 0` returns :math:`\mathbf{a}_0`, without noise.

        Args:
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`, or a
                denoiser's prediction of them.
            x_t (torch.Tensor): The rows :math:`\mathbf{a}_t`.
            t (int or torch.Tensor): As in :meth:`q_sample`.
            noise (torch.Tensor, optional): The noise
                :math:`\boldsymbol{\epsilon}`. (default: :obj:`None`, none: the
                output is the mean :math:`\boldsymbol{\mu}_t`)

        Shapes:
            - **x_start, x_t, noise, output:** :math:`(B, I)`
            - **t:** :math:`(B)`
        """
        check_matrix('x_start', x_start, finite=False, device=self.betas.device)
        check_matrix_like('x_t', x_t, x_start, x_start.dtype)
        t = check_steps(t, x_t.size(0), self.num_steps, self.betas.device)
        mean = (
            _rows(self.posterior_mean_coef1[t], x_t) * x_start
            + _rows(self.posterior_mean_coef2[t], x_t) * x_t
        )
        if noise is None:
            return mean
        check_matrix_like('noise', noise, x_t, x_t.dtype)
        # The logarithm of the variance stays precise in half precision.
        scale = (0.5 * self.posterior_log_variance_clipped[t]).exp()
        return mean + _rows(scale * (t > 0), x_t) * noise

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_steps}, '
            f'noise_scale={self.noise_scale}, '
            f'noise_min={self.noise_min}, noise_max={self.noise_max})'
        )


def _rows(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype).view(-1, 1)
