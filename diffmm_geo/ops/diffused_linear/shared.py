from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.bag import add_bag_grad_, bag
from diffmm_geo.ops.dense import (
    compute_dtype,
    matmul,
    mul_to,
    once_differentiable,
)
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.sparse import CSR


class _SharedNoise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        lists: CSR,
        value: Tensor,
        noise: Tensor,
        noise_scale: Tensor,
        own: Tensor,
    ) -> Tensor:
        ctx.lists = lists
        ctx.save_for_backward(value, noise, noise_scale, own)
        shared = matmul(noise, weight.to(noise.dtype)).to(weight.dtype)
        out = bag(lists, weight, value)
        return out.addcmul_(noise_scale.view(-1, 1), shared[own])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, noise, noise_scale, own = ctx.saved_tensors
        shared = grad.new_zeros(noise.size(0), grad.size(1))
        shared.index_add_(0, own, grad * noise_scale.view(-1, 1))
        out = matmul(noise.t(), shared.to(noise.dtype)).to(grad.dtype)
        add_bag_grad_(out, ctx.lists, grad, value)
        return out, None, None, None, None, None


def diffused_linear_shared(
    lists: CSR,
    weight: Tensor,
    signal: Tensor,
    noise_scale: Tensor,
    p: float,
    num_noises: int,
) -> Tensor:
    r"""Equals :func:`diffused_linear_naive` in distribution for each row. Rows
    share :obj:`num_noises` draws of noise and dropout, so they are no longer
    independent. The expected loss and gradient are the same.
    """
    num_rows = lists.size[0]
    keep = weight.new_ones(min(num_noises, num_rows), weight.size(0))
    keep = dropout(keep, p)
    noise = torch.empty_like(keep).normal_()
    noise = mul_to(noise, keep, compute_dtype(weight))
    own, place = lists.derive(_own_noise, max(1, keep.size(0)))
    value = signal[lists.row] * keep.view(-1)[place]
    out: Tensor = _SharedNoise.apply(
        weight, lists, value, noise, noise_scale, own
    )
    return out


def _own_noise(lists: CSR, num_noises: int) -> tuple[Tensor, Tensor]:
    r"""The row of noise of each row, and the place in noise of each entry."""
    rows = torch.arange(lists.size[0], device=lists.col.device)
    own = rows % num_noises
    return own, own[lists.row] * lists.size[1] + lists.col
