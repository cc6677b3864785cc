from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import ModuleDict, Parameter

from diffmm_geo.nn.pretrained import module_name
from diffmm_geo.ops.row_linear import row_linear
from diffmm_geo.utils.checks import (
    check_bool,
    check_choice,
    check_int,
    check_keys,
    check_matrix,
    check_modalities,
)
from diffmm_geo.utils.features import center_and_scale

HALF = (torch.float16, torch.bfloat16)


class Standardization(torch.nn.Module):
    r"""Centers each channel of features, and divides all by one number. It
    changes the weights of the linear map that follows, not the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('scale', torch.ones(()))

    def fit(self, x: Tensor) -> None:
        r"""Sets the buffers from features :math:`(N, C)`, whose root mean
        square becomes one.
        """
        mean, scale = center_and_scale(x)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(
        self, weight: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""The weight :math:`(F, C)` and the bias :math:`(F)` for raw features,
        from those for standardized features.
        """
        weight = weight / self.scale
        shift = weight @ self.mean
        return weight, -shift if bias is None else bias - shift


class LinearProjection(torch.nn.Linear):
    r"""An affine projection that also takes half precision features."""

    def __init__(
        self, in_channels: int, out_channels: int, standardize: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels)
        self.standardization = (
            Standardization(in_channels) if standardize else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias, self.standardization)


class LeakyXavierProjection(torch.nn.Module):
    r"""A linear map and LeakyReLU of slope 0.2, Xavier initialized."""

    def __init__(
        self, in_channels: int, out_channels: int, standardize: bool = False
    ) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(in_channels, out_channels))
        self.standardization = (
            Standardization(in_channels) if standardize else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = _linear(x, self.weight.t(), None, self.standardization)
        return F.leaky_relu(out, 0.2)


PROJECTIONS: dict[str, type[torch.nn.Module]] = {
    'linear': LinearProjection,
    'leaky_xavier': LeakyXavierProjection,
}


class ModalityProjection(ModuleDict):
    r"""Projects the raw features of each modality to embeddings."""

    def __init__(
        self,
        modality_channels: Mapping[str, int],
        embedding_dim: int,
        projection: str | Mapping[str, str],
        standardize: bool = False,
    ) -> None:
        super().__init__()
        check_keys('modality_channels', modality_channels, [])
        modalities = check_modalities(modality_channels, 'modality_channels')
        self.channels = {
            m: check_int(f"modality_channels['{m}']", channels)
            for m, channels in modality_channels.items()
        }
        if isinstance(projection, str):
            projection = dict.fromkeys(modalities, projection)
        check_keys('projection', projection, modalities)
        self.kinds = {
            m: check_choice('projection', projection[m], PROJECTIONS)
            for m in modalities
        }
        self.standardize = check_bool('standardize', standardize)
        for m, channels in self.channels.items():
            kind = PROJECTIONS[self.kinds[m]]
            self[module_name(m)] = kind(channels, embedding_dim, standardize)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for projection in self.values():
            projection.reset_parameters()  # type: ignore[operator]

    def fit_standardization(
        self, feature_dict: Mapping[str, Tensor], num_items: int
    ) -> None:
        r"""Sets the mean and the scale of each modality, if any."""
        self.check(feature_dict, num_items)
        for m in self.channels if self.standardize else ():
            standardization = self[module_name(m)].standardization
            assert isinstance(standardization, Standardization)
            standardization.fit(feature_dict[m])

    def forward(self, feature_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""The projected features, without checks."""
        pairs = zip(self.channels, self.values())
        return {m: project(feature_dict[m]) for m, project in pairs}

    def check(self, feature_dict: Mapping[str, Tensor], num_items: int) -> None:
        r"""Checks the features of all modalities."""
        check_keys('feature_dict', feature_dict, self.channels)
        device = next(self.parameters()).device
        for m, channels in self.channels.items():
            name = f"feature_dict['{m}']"
            check_matrix(
                name, feature_dict[m], num_items, channels, device=device
            )


def _linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    standardization: Standardization | None,
) -> Tensor:
    if standardization is not None:
        # The mean may be large, and cancels only in full precision.
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = standardization(weight, bias)
            return _linear(x, weight, bias, None)
    # Avoids a copy of half precision features in full precision.
    if x.dtype in HALF and x.dtype != weight.dtype and not x.requires_grad:
        return row_linear(x, weight, bias)
    return F.linear(x.to(weight.dtype), weight, bias)
