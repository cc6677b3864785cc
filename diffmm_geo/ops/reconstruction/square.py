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
    type of products (:obj:`*_low`). The bias is a channel of the weights, where
    the input is one.
    """

    h: Tensor
    weight: Tensor
    h_low: Tensor
    weight_low: Tensor


class Square(ABC):
    r"""Computes :math:`{\| \mathbf{W} \mathbf{h} \|}^2`."""

    @abstractmethod
    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        r"""The squares, and the tensors that :meth:`backward` needs."""

    @abstractmethod
    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""The gradients of :obj:`h` and :obj:`weight`."""

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
        out = matmul(layer.h_low, layer.weight_low.t())
        square = torch.linalg.vector_norm(out, dim=1, dtype=layer.h.dtype)
        return square.square_(), (out,)

    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        (out,) = kept
        dtype = layer.h.dtype
        grad = 2 * grad.view(-1, 1)
        scaled = (grad * layer.h).to(out.dtype)
        return (
            grad * matmul(out, layer.weight_low).to(dtype),
            matmul(out.t(), scaled).to(dtype),
        )


class GramSquare(Square):
    r"""Equals :class:`DenseSquare`, but never computes outputs

    .. math::
        \mathbf{h}^{\top} (\mathbf{W}^{\top} \mathbf{W}) \mathbf{h}.
    """

    def forward(self, layer: LastLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, _, h_low, weight_low = layer
        gram = matmul(weight_low.t(), weight_low)
        half = matmul(h_low, gram).to(h.dtype)
        return (half * h).sum(dim=1), (half,)

    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        (half,) = kept
        h, _, h_low, weight_low = layer
        grad = 2 * grad.view(-1, 1)
        outer = matmul((grad * h).to(h_low.dtype).t(), h_low)
        return grad * half, matmul(weight_low, outer).to(h.dtype)


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
        rows = layer.h[drawn]
        layer = layer._replace(h=rows, h_low=rows.to(layer.h_low.dtype))
        square, (out,) = DenseSquare().forward(layer)
        estimate = square.new_zeros(num_rows)
        estimate.index_add_(0, drawn, square * share)
        return estimate, (drawn, share, out, layer.h, layer.h_low)

    def backward(
        self, layer: LastLayer, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        drawn, share, out, rows, rows_low = kept
        grad_rows, grad_weight = DenseSquare().backward(
            layer._replace(h=rows, h_low=rows_low),
            (out,),
            grad[drawn] * share,
        )
        grad_h = torch.zeros_like(layer.h).index_add_(0, drawn, grad_rows)
        return grad_h, grad_weight

    def composed(
        self, h: Tensor, weight: Tensor, bias: Tensor, kept: tuple[Tensor, ...]
    ) -> Tensor:
        drawn, share = kept[:2]
        square = super().composed(h[drawn], weight, bias, ())
        return h.new_zeros(h.size(0)).index_add(0, drawn, square * share)


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
