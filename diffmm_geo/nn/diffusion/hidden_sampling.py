r"""Sampling in the hidden layer, without rows of all items."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.interaction_diffusion import (
    InteractionDiffusion,
    generated_edges,
)
from diffmm_geo.nn.diffusion.list_loss import unit_values
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.device import block_size
from diffmm_geo.ops.product import compute_dtype, matmul, product
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import check_index, check_k

# Elements of a block of hidden states on a CPU: 8 MiB, to stay in cache.
BLOCK_SIZE = 2**21


class HiddenReverse:
    r"""Equals :meth:`InteractionDiffusion.sample` without noise and row
    normalization, up to the last layer of its last step.

    The first layer reads the rows only as :math:`\mathbf{z} = \mathbf{a}
    \mathbf{W}_{\mathrm{in}}`, so the process runs on hidden states. With the
    step part :math:`\mathbf{s}_t` of the first layer and its output
    :math:`\mathbf{y}_t = \mathbf{z}_t + \mathbf{s}_t`, a step is

    .. math::
        \mathbf{y}_{t-1} = c_1 \left( \mathbf{h}_t (\mathbf{W}_{\mathrm{out}}
        \mathbf{W}_{\mathrm{in}}) + \mathbf{b}_{\mathrm{out}}
        \mathbf{W}_{\mathrm{in}} \right) + c_2 (\mathbf{y}_t - \mathbf{s}_t) +
        \mathbf{s}_{t-1}.

    In the last step, :math:`c_1 = 1` and :math:`c_2 = 0`: the process ends in
    :math:`\mathbf{h}_0 \mathbf{W}_{\mathrm{out}} + \mathbf{b}_{\mathrm{out}}`.
    Autocast sets the data type of products.
    """

    @torch.no_grad()
    def __init__(
        self, diffusion: GaussianDiffusion, denoiser: Denoiser
    ) -> None:
        lin = denoiser.lin_out
        weight = product(lin.weight.t(), denoiser.item_weight)
        bias = lin.bias @ denoiser.item_weight
        steps = torch.arange(diffusion.num_steps, device=weight.device)
        shift = denoiser.time_shift(denoiser.time_encoding(steps))
        coef1 = diffusion.posterior_mean_coef1
        coef2 = diffusion.posterior_mean_coef2

        self.denoiser = denoiser
        self.dtype = compute_dtype(weight)
        self.start = shift[-1]
        # Step 0 is the last hidden layer alone.
        self.steps = [
            (
                (coef1[t] * weight).to(self.dtype),
                coef1[t] * bias - coef2[t] * shift[t] + shift[t - 1],
                float(coef2[t]),
            )
            for t in range(diffusion.num_steps - 1, 0, -1)
        ]

    @torch.no_grad()
    def __call__(self, z: Tensor) -> Tensor:
        r"""The last hidden layer :math:`(B, H^{\prime})` of the last step,
        from :math:`\mathbf{z}` :math:`(B, H)` of the first.
        """
        y = (z + self.start).to(self.dtype)
        for weight, shift, coef2 in self.steps:
            h = self.denoiser.last_hidden(y).to(self.dtype)
            y = matmul(h, weight, shift.to(self.dtype)).add_(y, alpha=coef2)
        return self.denoiser.last_hidden(y)


def hidden_sampler(model: InteractionDiffusion) -> Callable[[CSR], Tensor]:
    r"""Equals :meth:`InteractionDiffusion.sample` without noise, up to its last
    layer, from lists of interactions.
    """
    denoiser = model.denoiser
    weight = denoiser.item_weight
    if isinstance(model.diffusion, MaskedDiffusion):
        # A logarithm of a softmax sorts items as its logits do.
        t = torch.zeros(1, dtype=torch.long, device=weight.device)
        return lambda lists: denoiser.hidden(
            bag(lists, weight, unit_values(lists, weight.dtype)), t
        )
    reverse = HiddenReverse(model.diffusion, denoiser)
    return lambda lists: reverse(bag(lists, weight))


@torch.no_grad()
def sample_edges_in_hidden_size(
    model: InteractionDiffusion,
    interactions: CSR,
    num_edges_per_user: int = 1,
    candidates: Tensor | None = None,
    exclude_observed: bool = False,
) -> Tensor:
    r"""Equals :meth:`InteractionDiffusion.sample_edges` without noise and, for
    a Gaussian process, row normalization. Users with the same items share one
    computation.
    """
    denoiser, lin = model.denoiser, model.denoiser.lin_out
    dtype = compute_dtype(lin.weight)
    weight, bias = lin.weight.to(dtype), lin.bias.to(dtype)
    if candidates is not None:
        candidates = check_index(
            'candidates', candidates, model.num_items, weight.device
        )
        weight, bias = weight[candidates], bias[candidates]
    k = check_k(num_edges_per_user, weight.size(0), 'num_edges_per_user')

    last_hidden = hidden_sampler(model)
    lists, row = interactions.distinct()
    width = max(denoiser.hidden_channels)
    height = max(1, block_size(BLOCK_SIZE, weight.device) // width)
    item = lists.col.new_empty(lists.size[0], k)
    for rows, block in lists.blocks(height):
        h = last_hidden(block)
        exclude = block if exclude_observed else None
        if exclude is not None and candidates is not None:
            exclude = exclude.take_columns(candidates)
        item[rows] = topk_items(h, weight, k, bias, exclude)
    if candidates is not None:
        item = torch.where(item < 0, item, candidates[item])
    return generated_edges(item[row])
