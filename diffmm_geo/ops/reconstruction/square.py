r"""Several forms of the squared length of the last layer's output rows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffmm_geo.ops.dense import matmul, mul_to

Kept = tuple[Tensor, ...]


class LastLayer(NamedTuple):
    r"""The input and weights of the last layer, the former also in the type of
    products (:obj:`*_low`). The bias is a channel of the weights, where the
    input is one.
    """

    h: Tensor
    h_low: Tensor
    weight_low: Tensor


class Grad(NamedTuple):
    r"""Twice the gradient of each square, :math:`(B, 1)`, that times :obj:`h`,
    and the gradient of :obj:`h`, which squares add to.
    """

    pull: Tensor
    pulled: Tensor
    of_h: Tensor


class Square(ABC):
    r"""Computes :math:`{\| \mathbf{W} \mathbf{h} \|}^2`."""

    @abstractmethod
    def forward(self, layer: LastLayer, out: Tensor) -> Kept:
        r"""Adds the squares to a vector, and returns the tensors that
        :meth:`backward` needs.
        """

    @abstractmethod
    def backward(self, layer: LastLayer, kept: Kept, grad: Grad) -> Tensor:
        r"""Adds the gradient of :obj:`h`, and returns that of the weights in
        the type of products.
        """


class DenseSquare(Square):
    r"""Equals the square in :func:`reconstruction_naive`. It scales the
    operands, which are narrow, instead of the outputs. The outputs are then
    written only once.
    """

    def forward(self, layer: LastLayer, out: Tensor) -> Kept:
        x = matmul(layer.h_low, layer.weight_low.t())
        norm = torch.linalg.vector_norm(x, dim=1, dtype=layer.h.dtype)
        out.addcmul_(norm, norm)
        return (x,)

    def backward(self, layer: LastLayer, kept: Kept, grad: Grad) -> Tensor:
        (x,) = kept
        back = matmul(x, layer.weight_low).to(grad.of_h.dtype)
        grad.of_h.addcmul_(grad.pull, back)
        return matmul(x.t(), grad.pulled.to(x.dtype))


class GramSquare(Square):
    r"""Equals :class:`DenseSquare`, but never computes outputs

    .. math::
        \mathbf{h}^{\top} (\mathbf{W}^{\top} \mathbf{W}) \mathbf{h}.
    """

    def forward(self, layer: LastLayer, out: Tensor) -> Kept:
        h, h_low, weight_low = layer
        gram = matmul(weight_low.t(), weight_low)
        half = matmul(h_low, gram).to(h.dtype)
        out.add_((half * h).sum(dim=1))
        return (half,)

    def backward(self, layer: LastLayer, kept: Kept, grad: Grad) -> Tensor:
        (half,) = kept
        _, h_low, weight_low = layer
        grad.of_h.addcmul_(grad.pull, half)
        pulled = grad.pulled.to(h_low.dtype)
        return matmul(weight_low, matmul(pulled.t(), h_low))


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

    def forward(self, layer: LastLayer, out: Tensor) -> Kept:
        drawn, share = systematic_sample(
            self.importance, min(self.num_samples, layer.h.size(0))
        )
        rows = layer.h[drawn]
        x = matmul(rows.to(layer.h_low.dtype), layer.weight_low.t())
        norm = torch.linalg.vector_norm(x, dim=1, dtype=rows.dtype)
        out.index_add_(0, drawn, norm.square_().mul_(share))
        return drawn, share, x, rows

    def backward(self, layer: LastLayer, kept: Kept, grad: Grad) -> Tensor:
        drawn, share, x, rows = kept
        pull = grad.pull[drawn] * share.view(-1, 1)
        back = matmul(x, layer.weight_low).to(grad.of_h.dtype)
        grad.of_h.index_add_(0, drawn, pull * back)
        return matmul(x.t(), mul_to(pull, rows, x.dtype))


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
    end = importance.cumsum(0, dtype=torch.double)
    step = end[-1] / size
    shift = torch.rand((), dtype=end.dtype, device=end.device)
    point = (torch.arange(size, device=end.device) + shift) * step
    drawn = torch.searchsorted(end, point, right=True)
    drawn.clamp_(max=end.numel() - 1)
    return drawn, (step / importance[drawn]).to(importance.dtype)
