from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, ModuleList, Parameter

from diffmm_geo.nn.pretrained import load_official
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.dense import unit_rows
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    as_int,
    check_bool,
    check_int,
    check_keys,
    check_mask,
    check_matrix,
    check_number,
    check_steps,
    describe,
)
from diffmm_geo.utils.features import Moments, mean_and_scale, standardize

# The scale of projected features, and the gain of their initialization.
# Chosen by validation on TikTok and MovieLens-100K.
FEATURE_SCALE = 0.1
FEATURE_GAIN = 0.6
# The first layer of the authors' module.
FIRST = 'in_layers.0.weight'


class Denoiser(torch.nn.Module):
    r"""The denoising network of the `"DiffMM: Multi-Modal Diffusion Model
    for Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper
    (Section 3.2)

    .. math::
        \mathbf{\hat{a}}_0 = \mathbf{W}_{\mathrm{out}} \tanh \left(
        \mathbf{W}_{\mathrm{in}} \, [ \mathrm{dropout}(\mathbf{a}_t),
        \mathbf{e}_t ] + \mathbf{b}_{\mathrm{in}} \right) +
        \mathbf{b}_{\mathrm{out}}

    where :math:`\mathbf{e}_t` is a linear map of the sinusoidal encoding of
    the step :math:`t`. With item features :math:`\mathbf{X}`
    :math:`(I, C)`, standardized and with rows of unit length, each item's row
    of the first and of the last layer is its own row plus a projection of its
    features

    .. math::
        \mathbf{W}_{\mathrm{in}} = \mathbf{A} + s \, \mathbf{X} \mathbf{P}
        \qquad
        \mathbf{W}_{\mathrm{out}} = \mathbf{B} + s \, \mathbf{X} \mathbf{Q}.

    The constant :math:`s` keeps projections small at first and slow to learn,
    so that features without information cost little. Items without observed
    interactions have no row of their own in the first layer;
    :meth:`ModalityDiffusion.place_unobserved
    <diffmm_geo.nn.ModalityDiffusion.place_unobserved>` computes that of the
    last layer.

    Args:
        num_items (int): The number of items :math:`I`.
        hidden_channels (int or list[int], optional): The size of the hidden
            layer. A list gives the decoder's hidden layers, innermost first,
            and the encoder mirrors them. (default: :obj:`1000`)
        time_channels (int, optional): The size of the step encoding.
            (default: :obj:`10`)
        dropout (float, optional): The dropout probability of
            :math:`\mathbf{a}_t` in training. (default: :obj:`0.5`)
        normalize (bool, optional): Whether to normalize the rows
            :math:`\mathbf{a}_t` to unit length first. (default: :obj:`False`)
        feature_channels (int, optional): The number of channels :math:`C` of
            item features. With :obj:`-1`, it is that of the features of
            :meth:`set_features`, before which there are none. The paper's
            denoiser takes no features. (default: :obj:`None`, no features)

    Shapes:
        - **x_t:** :math:`(B, I)`
        - **t:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import Denoiser
        >>> denoiser = Denoiser(num_items=6, hidden_channels=[4, 8])
        >>> denoiser(torch.rand(3, 6), torch.tensor([0, 2, 4])).size()
        torch.Size([3, 6])
    """

    feature_in: Tensor
    feature_out: Tensor
    feature: Tensor | None
    observed: Tensor | None
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        num_items: int,
        hidden_channels: int | Sequence[int] = 1000,
        time_channels: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
        feature_channels: int | None = None,
    ) -> None:
        super().__init__()
        number = as_int(hidden_channels)
        sizes = hidden_channels if number is None else [number]
        if not isinstance(sizes, (list, tuple)) or len(sizes) == 0:
            raise ValueError(
                f"'hidden_channels' needs to be an integer or a non-empty list "
                f'of integers (got {describe(hidden_channels)})'
            )
        hidden = [check_int('hidden_channels', h) for h in sizes]
        self.num_items = num_items = check_int('num_items', num_items)
        self.hidden_channels = hidden
        time_channels = check_int('time_channels', time_channels, 2)
        self.time_channels = time_channels
        self.dropout = check_number(
            'dropout', dropout, 0.0, 1.0, high_open=True
        )
        self.normalize = check_bool('normalize', normalize)

        # The first layer is split into an item part and a step part, so that
        # sparse rows can look up `item_weight`.
        encoder, decoder = list(reversed(hidden)), [*hidden, num_items]
        self.item_weight = Parameter(torch.empty(num_items, encoder[0]))
        self.time_emb = Linear(time_channels, time_channels)
        self.time_lin = Linear(time_channels, encoder[0])
        self.encoder = ModuleList(
            Linear(i, o) for i, o in zip(encoder[:-1], encoder[1:])
        )
        self.decoder = ModuleList(
            Linear(i, o) for i, o in zip(decoder[:-1], decoder[1:])
        )
        self.takes_features = feature_channels is not None
        for name in ('feature_in', 'feature_out'):
            self.register_parameter(name, None)
        for name in ('feature', 'observed', 'feature_mean', 'feature_scale'):
            self.register_buffer(name, None)
        if feature_channels is not None and feature_channels != -1:
            channels = check_int('feature_channels', feature_channels)
            self.add_features(channels)
        self.reset_parameters()

    def add_features(self, channels: int) -> None:
        r"""Adds projections, and features of zeros."""
        weight = self.item_weight
        for name, lin in (
            ('feature_in', weight),
            ('feature_out', self.lin_out.weight),
        ):
            value = weight.new_empty(channels, lin.size(1))
            setattr(self, name, Parameter(value))
        self.feature = weight.new_zeros(self.num_items, channels)
        self.observed = torch.ones(
            self.num_items, dtype=torch.bool, device=weight.device
        )
        self.feature_mean = weight.new_zeros(channels)
        self.feature_scale = weight.new_ones(channels)
        self.reset_features()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for lin in [self.time_emb, *self.encoder, *self.decoder]:
            assert isinstance(lin, Linear)
            torch.nn.init.xavier_normal_(lin.weight)
            torch.nn.init.normal_(lin.bias, 0.0, 0.001)
        # Xavier initialization of the first layer as a whole.
        fan = self.num_items + self.time_channels + self.item_weight.size(1)
        torch.nn.init.normal_(self.item_weight, 0.0, math.sqrt(2 / fan))
        torch.nn.init.normal_(self.time_lin.weight, 0.0, math.sqrt(2 / fan))
        torch.nn.init.normal_(self.time_lin.bias, 0.0, 0.001)
        if self.feature is not None:
            self.reset_features()
            with torch.no_grad():
                self._clear_unobserved()

    def reset_features(self) -> None:
        r"""Resets the projections of features."""
        for weight in (self.feature_in, self.feature_out):
            torch.nn.init.xavier_normal_(weight, FEATURE_GAIN)

    @property
    def lin_out(self) -> Linear:
        r"""The last layer."""
        lin = self.decoder[-1]
        assert isinstance(lin, Linear)
        return lin

    @property
    def num_channels(self) -> int | None:
        r"""The number of channels of item features, if there are any."""
        return None if self.feature is None else self.feature.size(1)

    @property
    def feature_channels(self) -> int | None:
        r"""The argument of the constructor, inferred if it was."""
        if self.feature is None:
            return -1 if self.takes_features else None
        return self.num_channels

    @torch.no_grad()
    def set_features(self, x: Tensor, observed: Tensor | None = None) -> None:
        r"""Sets the item features, which are standardized, and saved with the
        denoiser.

        Args:
            x (torch.Tensor): The raw features. Rows of zeros are missing.
            observed (torch.Tensor, optional): Which items have observed
                interactions. If none has, all count as observed.
                (default: :obj:`None`, all)

        Shapes:
            - **x:** :math:`(I, C)`
            - **observed:** :math:`(I)`, of type :obj:`torch.bool`

        Raises:
            ValueError: If the features do not fit, or if the denoiser takes
                none.
        """
        if not self.takes_features:
            raise ValueError(
                "'feature_channels' needs to be given to set features "
                '(got None)'
            )
        check_matrix('x', x, self.num_items, self.num_channels)
        if observed is not None:
            check_mask('observed', observed, self.num_items)
        if observed is None or not observed.any():
            observed = torch.ones(self.num_items, dtype=torch.bool)
        if self.feature is None:
            self.add_features(x.size(1))
        # A large mean has no digits to spare in half precision.
        moments = mean_and_scale(x)
        self.feature_mean.copy_(moments[0])
        self.feature_scale.copy_(moments[1])
        self.feature = self.standardized(x, moments)
        # Denoisers that shared it could not be saved.
        self.observed = observed.to(self.item_weight.device, copy=True)
        self._clear_unobserved()

    def standardized(self, x: Tensor, moments: Moments) -> Tensor:
        r"""Features of unit length, from raw ones and their moments."""
        return unit_rows(standardize(x, moments)).to(self.item_weight)

    def _clear_unobserved(self) -> None:
        assert self.observed is not None
        for weight in (self.item_weight, self.lin_out.weight):
            weight[~self.observed] = 0.0

    @property
    def first_weight(self) -> Tensor:
        r"""The rows :math:`(I, H)` of items in the first layer."""
        if self.feature is None:
            return self.item_weight
        return self.item_weight + project(self.feature, self.feature_in)

    def first(self, lists: CSR, value: Tensor | None = None) -> Tensor:
        r"""The item part :math:`(B, H)` of the first layer from lists of
        items: the weighted sum of :obj:`first_weight`.
        """
        out = bag(lists, self.item_weight, value)
        if self.feature is None:
            return out
        return out + project(bag(lists, self.feature, value), self.feature_in)

    def last_weight(self, index: Tensor | None = None) -> Tensor:
        r"""The rows :math:`(I, H^{\prime})` of the last layer, or those of
        some items :math:`(N)`.
        """
        weight, feature = self.lin_out.weight, self.feature
        if index is not None:
            weight = weight[index]
            feature = None if feature is None else feature[index]
        if feature is None:
            return weight
        return weight + project(feature, self.feature_out)

    def time_encoding(self, t: Tensor) -> Tensor:
        r"""The sinusoidal encoding :math:`(B, C)` of steps :math:`(B)`,
        cosines first, zero-padded if :math:`C` is odd.
        """
        half, weight = self.time_channels // 2, self.time_emb.weight
        # 10000^(-n / half), in one operation.
        frequency = torch.logspace(
            *(0, 4 / half - 4, half), dtype=weight.dtype, device=t.device
        )
        angle = t.view(-1, 1) * frequency
        parts = [angle.cos(), angle.sin()]
        if self.time_channels % 2 == 1:
            parts.append(angle.new_zeros(angle.size(0), 1))
        return torch.cat(parts, dim=-1)

    def hidden(self, z: Tensor, t: Tensor) -> Tensor:
        r"""The last hidden layer :math:`(B, H^{\prime})`, from the item part
        :math:`(B, H)` of the first layer and steps :math:`(B)` or :math:`(1)`.
        """
        return self.last_hidden(z + self.time_shift(self.time_encoding(t)))

    def time_shift(self, encoding: Tensor) -> Tensor:
        r"""The step part :math:`(B, H)` of the first layer, with its bias, from
        the encoding of steps.
        """
        # Small products, which would cost less than the casts of their weights.
        with torch.autocast(encoding.device.type, enabled=False):
            out = self.time_lin(self.time_emb(encoding))
        assert isinstance(out, Tensor)
        return out

    def last_hidden(self, h: Tensor) -> Tensor:
        r"""The last hidden layer :math:`(B, H^{\prime})`, from the first layer
        :math:`(B, H)` before its activation.
        """
        for lin in [*self.encoder, *self.decoder[:-1]]:
            h = lin(h.tanh())
        return h.tanh()

    def forward(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        weight = self.item_weight
        check_matrix('x_t', x_t, None, self.num_items, like=weight)
        t = check_steps(t, x_t.size(0), device=weight.device)
        if self.normalize:
            x_t = unit_rows(x_t)
        if self.training:
            x_t = dropout(x_t, self.dropout)
        h = self.hidden(x_t @ self.first_weight, t)
        return F.linear(h, self.last_weight(), self.lin_out.bias)

    def load_official_state_dict(
        self, state_dict: Mapping[str, Tensor]
    ) -> None:
        r"""Loads the parameters of the authors' :obj:`Denoise` module:
        :obj:`emb_layer`, :obj:`in_layers.*` and :obj:`out_layers.*`.

        Raises:
            ValueError: If an entry is missing or unknown, or has another shape.
        """
        check_keys('state_dict', state_dict, [FIRST])
        first = check_matrix(f"state_dict['{FIRST}']", state_dict[FIRST])
        renamed = {
            'item_weight': first[:, : self.num_items].t(),
            'time_lin.weight': first[:, self.num_items :],
            **{k: x for k, x in state_dict.items() if k != FIRST},
        }
        names = {'emb_layer': 'time_emb', 'in_layers.0': 'time_lin'}
        for n in range(len(self.decoder)):
            names[f'in_layers.{n + 1}'] = f'encoder.{n}'
            names[f'out_layers.{n}'] = f'decoder.{n}'

        def rename(key: str) -> str:
            layer, _, name = key.rpartition('.')
            return f'{names.get(layer, layer)}.{name}'.removeprefix('.')

        load_official(self, renamed, rename)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'hidden_channels={self.hidden_channels})'
        )


def project(x: Tensor, weight: Tensor) -> Tensor:
    r"""The part of features :math:`(N, C)` in a layer."""
    return (x @ (FEATURE_SCALE * weight)).to(x.dtype)
