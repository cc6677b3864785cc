from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.bag import add_bag_grad_, bag
from diffmm_geo.ops.composed_grads import composed_grads
from diffmm_geo.ops.product import compute_dtype, matmul
from diffmm_geo.sparse import CSR

from .square import LastLayer, Square


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
        layer = LastLayer(h, weight, bias, h.to(low), weight.to(low))
        error, kept = square.forward(layer)
        # |a - x|^2 = |x|^2 + the sum of 1 - 2 x over the interactions.
        observed = bag(lists, weight)
        score = torch.linalg.vecdot(h, observed)
        score = score + bag(lists, bias.view(-1, 1)).view(-1)
        error = error + (lists.rowptr.diff() - 2 * score)

        # (h W^T + b) F without the output.
        mixed = matmul(layer.weight_low.t(), feature.to(low))
        projected = matmul(layer.h_low, mixed).to(h.dtype) + bias @ feature

        ctx.lists, ctx.square, ctx.num_kept = lists, square, len(kept)
        ctx.save_for_backward(*layer, feature, observed, mixed, *kept)
        return error, projected

    @staticmethod
    def backward(
        ctx: Any, grad_error: Tensor, grad_projected: Tensor
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        layer, (feature, observed, mixed) = LastLayer(*saved[:5]), saved[5:8]
        if torch.is_grad_enabled():  # For second derivatives.
            grads = composed_grads(
                lambda h, weight, bias: _composed(
                    *(h, weight, bias, ctx.lists),
                    *(feature, ctx.square, saved[8:]),
                ),
                layer[:3],
                [grad_error, grad_projected],
            )
            return *grads, None, None, None
        h, low = layer.h, layer.h_low.dtype
        grad_h, grad_weight, grad_bias = ctx.square.backward(
            layer, saved[8:], grad_error
        )
        pull = -2 * grad_error.view(-1, 1)
        grad_h.addcmul_(pull, observed)
        add_bag_grad_(grad_weight, ctx.lists, pull * h)
        add_bag_grad_(grad_bias.view(-1, 1), ctx.lists, pull)

        grad_projected = grad_projected.to(low)
        grad_h += matmul(grad_projected, mixed.t()).to(h.dtype)
        grad_mixed = matmul(layer.h_low.t(), grad_projected)
        grad_weight += matmul(feature.to(low), grad_mixed.t()).to(h.dtype)
        grad_bias += feature @ grad_projected.sum(dim=0, dtype=h.dtype)
        return grad_h, grad_weight, grad_bias, None, None, None


def _composed(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    lists: CSR,
    feature: Tensor,
    square: Square,
    kept: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    own = (h[lists.row] * weight[lists.col]).sum(dim=1) + bias[lists.col]
    score = own.new_zeros(h.size(0)).index_add(0, lists.row, own)
    error = square.composed(h, weight, bias, kept)
    error = error + (lists.rowptr.diff() - 2 * score)
    return error, h @ (weight.t() @ feature) + bias @ feature


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
    with torch.no_grad():
        feature = feature.to(h.dtype)
    error, projected = _Reconstruction.apply(
        h, weight, bias, lists, feature, square
    )
    return error, projected
