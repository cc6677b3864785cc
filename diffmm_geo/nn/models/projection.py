import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from diffmm_geo.ops.row_linear import row_linear

HALF = (torch.float16, torch.bfloat16)


class LinearProjection(torch.nn.Linear):
    r"""The affine projection :math:`\mathbf{X} \mathbf{W}^{\top} +
    \mathbf{b}`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias)


class LeakyXavierProjection(torch.nn.Module):
    r"""The projection :math:`\mathrm{LeakyReLU}_{0.2}(\mathbf{X}
    \mathbf{W})`, without bias and with Xavier initialisation.

    Args:
        in_channels (int): The number of raw channels.
        out_channels (int): The number of channels to project to.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(_linear(x, self.weight.t()), 0.2)


PROJECTIONS: dict[str, type[torch.nn.Module]] = {
    'linear': LinearProjection,
    'leaky_xavier': LeakyXavierProjection,
}


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # What is stored in half the size is not to be held in full.
    if x.dtype in HALF and x.dtype != weight.dtype and not x.requires_grad:
        return row_linear(x, weight, bias)
    return F.linear(x.to(weight.dtype), weight, bias)
