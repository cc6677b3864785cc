r"""The loss of a masked diffusion from lists of interactions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.nn.diffusion.list_loss import check_lists, steps_of
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.ops.multinomial import multinomial, sampled_columns
from diffmm_geo.sparse import CSR

# In the form 'sampled': items per batch, besides those of its users.
NUM_SAMPLES = 2048


def masked_list_loss(
    model: MaskedInteractionDiffusion,
    interactions: CSR,
    item_emb: Tensor,
    modality_emb: Tensor,
    msi_weight: float = 0.0,
    form: str = 'auto',
    t: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Equals :meth:`MaskedInteractionDiffusion.loss` in distribution, up to
    the rounding of the denoiser's dropout probability. :obj:`form="sampled"`
    estimates the sum over all items from the items of the batch and a sample of
    others. All other forms are exact.
    """
    process, denoiser, lists = model.diffusion, model.denoiser, interactions
    weight, lin = denoiser.item_weight, denoiser.lin_out
    check_lists(model, lists, item_emb, modality_emb, msi_weight, form)
    t = steps_of(model, lists.size[0], t)
    noise = torch.rand(lists.nnz, device=weight.device)
    kept = lists.filter(noise >= process.mask_prob[t][lists.row])
    value = unit_values(kept, weight.dtype) * process.scale[t][kept.row]
    if denoiser.training:
        value = dropout(value, denoiser.dropout)
    h = denoiser.hidden(bag(kept, weight, value), t).to(weight.dtype)

    columns = None
    if form == 'sampled':
        columns = sampled_columns(lists, NUM_SAMPLES)
    if msi_weight == 0:
        modality_emb = weight.new_empty(model.num_items, 0)
    nll, projected = multinomial(
        h, lin.weight, lin.bias, lists, modality_emb.detach(), columns
    )
    if msi_weight == 0:
        return nll, torch.zeros_like(nll)
    target = bag(lists, item_emb.detach())
    return nll, F.mse_loss(projected, target, reduction='none').mean(-1)


def unit_values(lists: CSR, dtype: torch.dtype) -> Tensor:
    r"""The values :math:`(E)` that give rows unit length."""
    return lists.rowptr.diff().to(dtype).rsqrt()[lists.row]
