from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.bag import add_bag_grad_, bag
from diffmm_geo.ops.dense import compute_dtype, matmul, once_differentiable
from diffmm_geo.sparse import CSR

from .square import Grad, LastLayer, Square

# The bias is several channels, so that rows stay aligned, each of which counts
# for a part.
BIAS_CHANNELS = 8


class _Reconstruction(torch.autograd.Function):
    # Gradients of the weight, which has a row per item, share one buffer.
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
        lists: CSR,
        feature: Tensor,
        square: Square,
    ) -> tuple[Tensor, Tensor]:
        low = compute_dtype(h)
        h_1 = F.pad(h, (0, BIAS_CHANNELS), value=1 / BIAS_CHANNELS)
        channels = bias.view(-1, 1).expand(-1, BIAS_CHANNELS)
        weight_b = torch.cat([weight, channels], dim=1)
        layer = LastLayer(h_1, h_1.to(low), weight_b.to(low))
        # |a - x|^2 = |x|^2 + the sum of 1 - 2 x over the interactions.
        observed = bag(lists, weight_b)
        score = (h_1 * observed).sum(dim=1)
        error = torch.sub(lists.derive(_degree), score, alpha=2)
        kept = square.forward(layer, error)

        # h W^T F without the output.
        feature = feature.to(low)
        mixed = matmul(layer.weight_low.t(), feature)
        projected = matmul(layer.h_low, mixed).to(h.dtype)

        ctx.lists, ctx.square = lists, square
        ctx.save_for_backward(*layer, *(feature, observed, mixed), *kept)
        return error, projected

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_error: Tensor, grad_projected: Tensor
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        layer, kept = LastLayer(*saved[:3]), saved[6:]
        feature, observed, mixed = saved[3:6]
        dtype = layer.h.dtype
        pull = 2 * grad_error.view(-1, 1)
        pulled = pull * layer.h
        grad_projected = grad_projected.to(feature.dtype)
        grad_h = matmul(grad_projected, mixed.t()).to(dtype)
        grad_h.addcmul_(pull, observed, value=-1)
        grad = Grad(pull, pulled, grad_h)
        grad_weight = ctx.square.backward(layer, kept, grad)
        grad_mixed = matmul(layer.h_low.t(), grad_projected)
        grad_weight = grad_weight.addmm_(feature, grad_mixed.t()).to(dtype)
        add_bag_grad_(grad_weight, ctx.lists, pulled, alpha=-1)
        hidden = grad_h.size(1) - BIAS_CHANNELS
        return (
            grad_h[:, :hidden],
            grad_weight[:, :hidden],
            grad_weight[:, hidden:].sum(dim=1),
            *(None, None, None),
        )


def _degree(lists: CSR) -> Tensor:
    return lists.rowptr.diff()


def reconstruction(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    lists: CSR,
    feature: Tensor,
    square: Square,
) -> tuple[Tensor, Tensor]:
    r"""Equals :func:`reconstruction_naive`, with products in the type of
    autocast. :obj:`square` computes the square of the output. No gradient flows
    to features. They may have zero channels.
    """
    error, projected = _Reconstruction.apply(
        h, weight, bias, lists, feature.detach(), square
    )
    return error, projected
