r"""The items that score highest for each user."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.list_loss import unit_values
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.dense import block_size, compute_dtype, matmul, product
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_bool,
    check_edge_index,
    check_index,
    check_int,
    check_k,
)

# Scores or hidden states of a block on a CPU: 8 MiB in float32.
BLOCK_SIZE = 2**21


def default_num_edges(num_items: int) -> int:
    r"""The number of interactions to generate for each user, if not given."""
    return min(5, num_items)


def sample_edges(
    model: InteractionDiffusion,
    edge_index: Tensor | CSR,
    num_users: int | None,
    num_edges_per_user: int,
    candidates: Tensor | None,
    exclude_observed: bool,
    sampling_steps: int,
    sampling_noise: bool,
) -> Tensor:
    r"""See :meth:`ModalityDiffusion.sample_edges`."""
    limit, lists = model.num_items, edge_index
    device = model.denoiser.item_weight.device
    if not isinstance(lists, CSR):
        size = check_int('num_users', num_users, 0), limit
        lists = check_edge_index('edge_index', lists, *size, device)
        lists = CSR.from_edge_index(lists, size, coalesce=True)
    sampling_steps = check_int('sampling_steps', sampling_steps, 0)
    check_bool('sampling_noise', sampling_noise)
    check_bool('exclude_observed', exclude_observed)
    if candidates is not None:
        candidates = check_index('candidates', candidates, limit, device)
        limit = candidates.numel()
    k = check_k(num_edges_per_user, limit, 'num_edges_per_user')
    args = model, lists, k, candidates, exclude_observed
    is_masked = isinstance(model.diffusion, MaskedDiffusion)
    needs_rows = model.denoiser.normalize and not is_masked
    if needs_rows or sampling_noise or sampling_steps > 0:
        item = top_items_of_rows(*args, sampling_steps, sampling_noise)
    else:
        item = top_items_in_hidden_size(*args)
    if candidates is not None:
        item = torch.where(item < 0, item, candidates[item])
    return edges_of(item)


def edges_of(item: Tensor) -> Tensor:
    r"""The edges :math:`(2, E)` to the items :math:`(U, k)` of each user,
    without the entries :obj:`-1`.
    """
    user, place = (item >= 0).nonzero().t()
    return torch.stack([user, item[user, place]])


def top_items_of_rows(
    model: InteractionDiffusion,
    lists: CSR,
    k: int,
    candidates: Tensor | None,
    exclude_observed: bool,
    sampling_steps: int,
    sampling_noise: bool,
) -> Tensor:
    r"""The places :math:`(U, k)` of items among the candidates, :obj:`-1` where
    none is left, from :meth:`InteractionDiffusion.sample`.
    """
    weight = model.denoiser.item_weight
    height = max(1, block_size(BLOCK_SIZE, weight.device) // model.num_items)
    place = lists.col.new_empty(lists.size[0], k)
    for rows, block in lists.blocks(height):
        score = model.sample(
            block.dense(weight), sampling_steps, sampling_noise
        )
        if exclude_observed:
            score[block.row, block.col] = float('-inf')
        if candidates is not None:
            score = score[:, candidates]
        value, top = score.topk(k, dim=1)
        if exclude_observed:
            top = top.masked_fill(value.isneginf(), -1)
        place[rows] = top
    return place


def top_items_in_hidden_size(
    model: InteractionDiffusion,
    lists: CSR,
    k: int,
    candidates: Tensor | None,
    exclude_observed: bool,
) -> Tensor:
    r"""Equals :func:`top_items_of_rows` without noise and, for a Gaussian
    process, row normalization. Users with the same items share one computation.
    """
    denoiser = model.denoiser
    weight = denoiser.last_weight(candidates)
    bias: Tensor = denoiser.lin_out.bias
    if candidates is not None:
        bias = bias[candidates]
    dtype = compute_dtype(weight)
    weight, bias = weight.to(dtype), bias.to(dtype)
    last_hidden = hidden_sampler(model)
    lists, row = lists.distinct()
    width = max(denoiser.hidden_channels)
    height = max(1, block_size(BLOCK_SIZE, weight.device) // width)
    place = lists.col.new_empty(lists.size[0], k)
    for rows, block in lists.blocks(height):
        h = last_hidden(block)
        exclude = block if exclude_observed else None
        if exclude is not None and candidates is not None:
            exclude = exclude.take_columns(candidates)
        place[rows] = topk_items(h, weight, k, bias, exclude)
    return place[row]


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
            denoiser.first(lists, unit_values(lists, weight.dtype)), t
        )
    reverse = HiddenReverse(model.diffusion, denoiser)
    return lambda lists: reverse(denoiser.first(lists))


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

    def __init__(
        self, diffusion: GaussianDiffusion, denoiser: Denoiser
    ) -> None:
        first = denoiser.first_weight
        weight = product(denoiser.last_weight().t(), first)
        bias = denoiser.lin_out.bias @ first
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

    def __call__(self, z: Tensor) -> Tensor:
        r"""The last hidden layer :math:`(B, H^{\prime})` of the last step,
        from :math:`\mathbf{z}` :math:`(B, H)` of the first.
        """
        y = (z + self.start).to(self.dtype)
        for weight, shift, coef2 in self.steps:
            h = self.denoiser.last_hidden(y).to(self.dtype)
            y = matmul(h, weight, shift.to(self.dtype)).add_(y, alpha=coef2)
        return self.denoiser.last_hidden(y)
