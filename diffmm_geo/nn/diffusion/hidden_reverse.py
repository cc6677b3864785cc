import torch
from torch import Tensor

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.ops.product import compute_dtype, matmul


class HiddenReverse:
    r"""The reverse process in hidden size: from one step to the next, what
    the first layer passes on to its activation is

    .. math::
        \mathbf{y}_{t-1} = c_1 \left( \mathbf{h}_t (\mathbf{W}_{\mathrm{out}}
        \mathbf{W}_{\mathrm{in}}) + \mathbf{b}_{\mathrm{out}}
        \mathbf{W}_{\mathrm{in}} \right) + c_2 (\mathbf{y}_t - \mathbf{s}_t) +
        \mathbf{s}_{t-1}

    with :math:`\mathbf{s}_t` the step's share of it. All that does not depend
    on users is computed once, and all but the product is in place. In the
    type of autocast.

    Args:
        denoiser (Denoiser): The denoiser.
        weight (torch.Tensor): :math:`\mathbf{W}_{\mathrm{out}}
            \mathbf{W}_{\mathrm{in}}`.
        bias (torch.Tensor): :math:`\mathbf{b}_{\mathrm{out}}
            \mathbf{W}_{\mathrm{in}}`.
        time_shift (torch.Tensor): :math:`\mathbf{s}_t` of every step.
        coef1 (torch.Tensor): :math:`c_1` of every step.
        coef2 (torch.Tensor): :math:`c_2` of every step.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        weight: Tensor,
        bias: Tensor,
        time_shift: Tensor,
        coef1: Tensor,
        coef2: Tensor,
    ) -> None:
        self.denoiser = denoiser
        self.dtype = compute_dtype(weight)
        self.start = time_shift[-1]
        # Last step first; the one at 0 ends in the hidden layer itself.
        self.steps = [
            (
                (coef1[t] * weight).to(self.dtype),
                coef1[t] * bias - coef2[t] * time_shift[t] + time_shift[t - 1],
                float(coef2[t]),
            )
            for t in range(time_shift.size(0) - 1, 0, -1)
        ]

    @torch.no_grad()
    def __call__(self, z: Tensor) -> Tensor:
        r"""The last hidden layer at the end of the process from the items'
        share :math:`\mathbf{z}` of the first layer at its start.

        Shapes:
            - **z:** :math:`(B, H)`
            - **output:** :math:`(B, H^{\prime})`
        """
        y = (z + self.start).to(self.dtype)
        for weight, shift, coef2 in self.steps:
            h = self.denoiser.last_hidden(y).to(self.dtype)
            x = matmul(h, weight, shift.to(self.dtype))
            y = x.add_(y, alpha=coef2)
        return self.denoiser.last_hidden(y)
