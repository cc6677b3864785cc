r"""The loss of a denoiser from lists of interactions, in several forms."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.nn.diffusion.forms import FORMS, input_form, output_form
from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.diffused_linear import (
    diffused_linear_gram,
    diffused_linear_naive,
    diffused_linear_shared,
)
from diffmm_geo.ops.reconstruction import (
    DenseSquare,
    GramSquare,
    SampledSquare,
    Square,
    reconstruction,
)
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_choice,
    check_index,
    check_same_device,
    check_steps,
    check_type,
)

# In the form 'sampled': rows of noise, and of squared outputs, per batch.
NUM_NOISES = 128
NUM_SAMPLES = 256


def list_loss(
    model: InteractionDiffusion,
    interactions: CSR,
    item_emb: Tensor,
    modality_emb: Tensor,
    msi_weight: float = 0.1,
    form: str = 'auto',
    t: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Equals :meth:`InteractionDiffusion.loss` in distribution if
    :obj:`form="dense"`. :meth:`~diffmm_geo.nn.ModalityDiffusion.batch_loss`
    describes the other forms and the arguments.
    """
    process, denoiser, lists = model.diffusion, model.denoiser, interactions
    weight, lin = denoiser.item_weight, denoiser.lin_out
    check_lists(model, lists, item_emb, modality_emb, msi_weight, form)
    if denoiser.normalize:
        # The norm of a diffused row needs all items.
        x_start = lists.dense(weight)
        return model.loss(x_start, item_emb, modality_emb, msi_weight, t)

    num_rows = lists.size[0]
    t = steps_of(model, num_rows, t)
    signal, noise_scale, loss_weight = torch.stack(
        [
            process.sqrt_alphas_cumprod,
            process.sqrt_one_minus_alphas_cumprod,
            process.elbo_weight / weight.size(0),
        ]
    ).to(weight.dtype)[:, t]
    dropout = denoiser.dropout if denoiser.training else 0.0
    diffused = (
        *(lists, weight),
        *(signal, noise_scale, dropout),
    )
    num_items, hidden = weight.size()
    layer = form
    if form == 'auto':
        layer = input_form(num_rows, num_items, hidden, dropout)
    if layer == 'sampled':
        z = diffused_linear_shared(*diffused, num_noises=NUM_NOISES)
    elif layer == 'gram':
        z = diffused_linear_gram(*diffused)
    else:
        z = diffused_linear_naive(*diffused)
    h = denoiser.hidden(z, t).to(weight.dtype)

    layer = form
    if form == 'auto':
        layer = output_form(num_rows, num_items, h.size(1))
    square: Square = DenseSquare()
    if layer == 'sampled':
        square = SampledSquare(loss_weight, NUM_SAMPLES)
    elif layer == 'gram':
        square = GramSquare()
    if msi_weight == 0:
        modality_emb = weight.new_empty(num_items, 0)
    error, projected = reconstruction(
        h, lin.weight, lin.bias, lists, modality_emb.detach(), square
    )
    elbo = loss_weight * error
    if msi_weight == 0:
        return elbo, torch.zeros_like(elbo)
    target = bag(lists, item_emb.detach())
    return elbo, F.mse_loss(projected, target, reduction='none').mean(-1)


def check_lists(
    model: InteractionDiffusion,
    interactions: CSR,
    item_emb: Tensor,
    modality_emb: Tensor,
    msi_weight: float,
    form: str,
) -> None:
    r"""Checks what every loss of lists takes."""
    check_choice('form', form, FORMS)
    model.check_msi(msi_weight, item_emb, modality_emb)
    check_type('interactions', interactions, CSR)
    col = interactions.col
    if not col.is_cuda:  # Reading values would synchronize a GPU.
        interactions.derive(_check_items, model.num_items)
    device = model.denoiser.item_weight.device
    check_same_device('interactions', col, device)


def _check_items(interactions: CSR, num_items: int) -> bool:
    check_index('interactions', interactions.col, num_items)
    return True


def steps_of(
    model: InteractionDiffusion, num_rows: int, t: Tensor | None
) -> Tensor:
    r"""The given steps, or uniform ones, of all rows."""
    num_steps = model.diffusion.num_steps
    device = model.denoiser.item_weight.device
    if t is None:
        return torch.randint(num_steps, (num_rows,), device=device)
    return check_steps(t, num_rows, num_steps, device).expand(num_rows)
