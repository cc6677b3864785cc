r"""Several forms of the squared length of the last layer's output rows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.product import matmul


class LastLayer(NamedTuple):
    r"""The input and weights of the last layer, in full precision and in the
    type of products (:obj:`*_low`).
    """

    h: Tensor
    weight: Tensor
    bias: Tensor
    h_low: Tensor
    weight_low: Tensor


class Square(ABC):
    r"""Computes :math:`{\| \mathbf{W} \mathbf{h} + \mathbf{b} \|}^2`."""

    @abstractmethod
    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        r"""The squares, and the tensors that :meth:`backward` needs."""

    @abstractmethod
    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The gradients of :obj:`h`, :obj:`weight` and :obj:`bias`."""

    def composed(
        self, h: Tensor, weight: Tensor, bias: Tensor, kept: tuple[Tensor, ...]
    ) -> Tensor:
        r"""The same squares, by differentiable operations."""
        return F.linear(h, weight, bias).square().sum(dim=1)


class DenseSquare(Square):
    r"""Equals the square in :func:`reconstruction_naive`. It scales the
    operands, which are narrow, instead of the outputs. The outputs are then
    written only once.
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
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
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
    r"""Equals :class:`DenseSquare`, but never computes outputs

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
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
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
    r"""Equals :class:`DenseSquare` in expectation. It computes a sample of
    rows, drawn in proportion to their weight in the loss, and divides each by
    its expected count.

    Args:
        importance (torch.Tensor): The non-negative weight of each row.
        num_samples (int): The number of rows to draw.
    """

    importance: Tensor
    num_samples: int

    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        num_rows = layer.h.size(0)
        drawn, share = systematic_sample(
            self.importance, min(self.num_samples, num_rows)
        )
        square, (out,) = DenseSquare().forward(_rows(layer, drawn))
        estimate = square.new_zeros(num_rows)
        estimate.index_add_(0, drawn, square * share)
        return estimate, (out, drawn, share)

    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, drawn, share = kept
        grad_rows, grad_weight, grad_bias = DenseSquare().backward(
            _rows(layer, drawn), (out,), grad[drawn] * share
        )
        grad_h = torch.zeros_like(layer.h).index_add_(0, drawn, grad_rows)
        return grad_h, grad_weight, grad_bias

    def composed(
        self, h: Tensor, weight: Tensor, bias: Tensor, kept: tuple[Tensor, ...]
    ) -> Tensor:
        _, drawn, share = kept
        square = super().composed(h[drawn], weight, bias, ())
        return h.new_zeros(h.size(0)).index_add(0, drawn, square * share)


def _rows(layer: LastLayer, rows: Tensor) -> LastLayer:
    return layer._replace(h=layer.h[rows], h_low=layer.h_low[rows])


def systematic_sample(importance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    r"""Draws rows by systematic sampling, at equally spaced points with a
    random shift on their cumulative weights. The count of a row differs from
    its expectation by less than one.

    Shapes:
        - **importance:** :math:`(B)`
        - **output:** the drawn rows, and the inverse of their expected
          counts, :math:`(S)` each
    """
    # Weights differ by orders of magnitude, hence the double precision.
    end = importance.double().cumsum(0)
    step = end[-1] / size
    shift = torch.rand((), dtype=end.dtype, device=end.device)
    point = (torch.arange(size, device=end.device) + shift) * step
    drawn = torch.searchsorted(end, point, right=True)
    drawn.clamp_(max=end.numel() - 1)
    return drawn, (step / importance[drawn]).to(importance.dtype)
