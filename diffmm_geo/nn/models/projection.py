import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter


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
        return F.leaky_relu(x @ self.weight, 0.2)


PROJECTIONS: dict[str, type[torch.nn.Module]] = {
    'linear': torch.nn.Linear,
    'leaky_xavier': LeakyXavierProjection,
}
