r"""The square of the last layer's output for each row, in several forms."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffmm_geo.ops.product import matmul
from diffmm_geo.ops.row_streams import RowStreams


class LastLayer(NamedTuple):
    r"""The hidden layer and the weights of the last, both in single (or
    double) precision and as they are multiplied.
    """

    h: Tensor
    weight: Tensor
    bias: Tensor
    h_low: Tensor
    weight_low: Tensor


class Square(ABC):
    r"""A way to :math:`{\| \mathbf{W} \mathbf{h} + \mathbf{b} \|}^2`."""

    @abstractmethod
    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        r"""The squares, and what to keep for the gradient."""

    @abstractmethod
    def backward(
        self,
        layer: LastLayer,
        kept: tuple[Tensor, ...],
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The gradients of :obj:`h`, :obj:`weight` and :obj:`bias`."""


class DenseSquare(Square):
    r"""As it is written. Scales go to the narrow operands, so that outputs
    are written once and read three times.
    """

    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = matmul(
            layer.h_low,
            layer.weight_low.t(),
            layer.bias.to(layer.weight_low.dtype),
        )
        square = torch.linalg.vector_norm(out, dim=1, dtype=layer.h.dtype)
        return square.square_(), (out,)

    def backward(
        self,
        layer: LastLayer,
        kept: tuple[Tensor, ...],
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (out,) = kept
        dtype = layer.h.dtype
        grad = 2 * grad.view(-1, 1)
        scaled = (grad * layer.h).to(out.dtype)
        return (
            grad * matmul(out, layer.weight_low).to(dtype),
            matmul(out.t(), scaled).to(dtype),
            (out.t() @ grad.to(out.dtype)).view(-1).to(dtype),
        )


class GramSquare(Square):
    r"""Without the outputs

    .. math::
        \mathbf{h}^{\top} (\mathbf{W}^{\top} \mathbf{W}) \mathbf{h} + 2 \,
        \mathbf{h}^{\top} \mathbf{W}^{\top} \mathbf{b} + {\| \mathbf{b} \|}^2.
    """

    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, weight, bias, h_low, weight_low = layer
        gram = matmul(weight_low.t(), weight_low)
        shift = bias @ weight
        half = matmul(h_low, gram).to(h.dtype) + shift
        square = torch.linalg.vecdot(half + shift, h) + bias.dot(bias)
        return square, (half,)

    def backward(
        self,
        layer: LastLayer,
        kept: tuple[Tensor, ...],
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (half,) = kept
        h, weight, bias, h_low, weight_low = layer
        grad = 2 * grad.view(-1, 1)
        scaled = grad * h
        total = scaled.sum(dim=0)
        outer = matmul(scaled.to(h_low.dtype).t(), h_low)
        grad_weight = matmul(weight_low, outer).to(h.dtype)
        return (
            grad * half,
            grad_weight.addr_(bias, total),
            weight @ total + bias * grad.sum(),
        )


@dataclass
class SampledSquare(Square):
    r"""An unbiased estimate: of some rows, drawn in proportion to their
    weight in the loss, each of which stands for as many as it was drawn from.

    Args:
        importance (torch.Tensor): The weight of each row, not negative.
        num_samples (int): The number of rows to draw.
        streams (RowStreams, optional): The blocks of rows to draw an equal
            share of the samples from each, in place of the global stream.
            (default: :obj:`None`)
    """

    importance: Tensor
    num_samples: int
    streams: RowStreams | None = None

    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        drawn, share = self._sample(layer.h.size(0))
        square, (out,) = DenseSquare().forward(_rows(layer, drawn))
        estimate = square.new_zeros(layer.h.size(0))
        estimate.index_add_(0, drawn, square * share)
        return estimate, (out, drawn, share)

    def _sample(self, num_rows: int) -> tuple[Tensor, Tensor]:
        if self.streams is None:
            return systematic_sample(
                self.importance, min(self.num_samples, num_rows)
            )
        drawn, share, start = [], [], 0
        for count, (importance, generator) in zip(
            self.streams.shares(self.num_samples),
            self.streams.parts(self.importance),
        ):
            if count > 0:
                rows, weight = systematic_sample(importance, count, generator)
                drawn.append(rows + start)
                share.append(weight)
            start += importance.numel()
        return torch.cat(drawn), torch.cat(share)

    def backward(
        self,
        layer: LastLayer,
        kept: tuple[Tensor, ...],
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, drawn, share = kept
        grad_rows, grad_weight, grad_bias = DenseSquare().backward(
            _rows(layer, drawn), (out,), grad[drawn] * share
        )
        grad_h = torch.zeros_like(layer.h).index_add_(0, drawn, grad_rows)
        return grad_h, grad_weight, grad_bias


def _rows(layer: LastLayer, rows: Tensor) -> LastLayer:
    return layer._replace(h=layer.h[rows], h_low=layer.h_low[rows])


def systematic_sample(
    importance: Tensor,
    size: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Systematic sampling: equally spaced points, shifted at random, on the
    rows' weights end to end. A row is drawn as often as expected, up to one.

    Shapes:
        - **importance:** :math:`(B)`
        - **output:** the rows drawn and the inverse of their expected counts,
          :math:`(S)` each
    """
    # Sums of many weights of very different size.
    end = importance.double().cumsum(0)
    step = end[-1] / size
    shift = torch.rand(
        (), generator=generator, dtype=end.dtype, device=end.device
    )
    point = (torch.arange(size, device=end.device) + shift) * step
    drawn = torch.searchsorted(end, point, right=True)
    drawn.clamp_(max=end.numel() - 1)
    return drawn, (step / importance[drawn]).to(importance.dtype)
