r"""The losses of denoisers from lists of interactions, in several forms."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.diffused_linear import (
    diffused_linear_gram,
    diffused_linear_naive,
    diffused_linear_shared,
    suits_gram,
)
from diffmm_geo.ops.dropout import dropout
from diffmm_geo.ops.multinomial import multinomial, sampled_columns
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
    check_type,
)

FORMS = ('auto', 'dense', 'gram', 'sampled')
# Cost of an element of noise and dropout, in floating point operations.
FLOPS_PER_NOISE = 3000
# Cost of a Cholesky factor and its gradient, in products of hidden size.
CHOLESKY_PRODUCTS = 9
# In the form 'sampled': rows of noise, and of squared outputs, per batch.
NUM_NOISES = 128
NUM_SAMPLES = 256
# If masked: items per batch, besides those of its users, and the most items for
# which 'auto' computes all.
NUM_ITEMS = 2048
MAX_EXACT_ITEMS = 20_000


def list_loss(
    model: InteractionDiffusion,
    lists: CSR,
    item_emb: Tensor,
    modality_emb: Tensor,
    msi_weight: float,
    form: str = 'auto',
    t: Tensor | None = None,
    table: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Equals :meth:`InteractionDiffusion.loss` in distribution if
    :obj:`form="dense"`, without checks.
    :meth:`~diffmm_geo.nn.ModalityDiffusion.batch_loss` describes the other
    forms and the arguments; :obj:`table` is that of :func:`step_table`, if it
    is made already.
    """
    weight = model.denoiser.item_weight
    is_masked = isinstance(model, MaskedInteractionDiffusion)
    if model.denoiser.normalize and not is_masked:
        # The norm of a diffused row needs all items.
        x_start = lists.dense(weight)
        return model.loss(x_start, item_emb, modality_emb, msi_weight, t)
    if t is None:
        t = model.draw_steps(lists.size[0])
    if msi_weight == 0:
        modality_emb = weight.new_empty(model.num_items, 0)
    of_likelihood = _masked if is_masked else _gaussian
    if table is None:
        table = step_table(model)
    t = t.expand(lists.size[0])
    error, projected = of_likelihood(
        model, lists, modality_emb.detach(), form, t, table[t]
    )
    if msi_weight == 0:
        return error, torch.zeros_like(error)
    target = bag(lists, item_emb.detach())
    return error, F.mse_loss(projected, target, reduction='none').mean(-1)


@torch.no_grad()
def step_table(model: InteractionDiffusion) -> Tensor:
    r"""What a loss needs of each step :math:`t`, the encoding last, which is
    the same as long as the weights have the same type and device.
    """
    process, denoiser = model.diffusion, model.denoiser
    weight = denoiser.item_weight
    encoding = denoiser.time_encoding(
        torch.arange(process.num_steps, device=weight.device)
    )
    if isinstance(model, MaskedInteractionDiffusion):
        return encoding
    columns = [
        process.sqrt_alphas_cumprod,
        process.sqrt_one_minus_alphas_cumprod,
        process.elbo_weight / model.num_items,
    ]
    columns = [x.to(weight.dtype).view(-1, 1) for x in columns]
    return torch.cat([*columns, encoding], dim=1)


def _gaussian(
    model: InteractionDiffusion,
    lists: CSR,
    feature: Tensor,
    form: str,
    t: Tensor,
    step: Tensor,
) -> tuple[Tensor, Tensor]:
    denoiser = model.denoiser
    weight, last = denoiser.first_weight, denoiser.last_weight()
    num_rows, (num_items, hidden) = lists.size[0], weight.size()
    signal, noise_scale, loss_weight = step[:, :3].unbind(dim=1)
    p = denoiser.dropout if denoiser.training else 0.0
    diffused = lists, weight, signal, noise_scale, p
    sizes = num_rows, num_items
    layer = input_form(*sizes, hidden, p) if form == 'auto' else form
    if layer == 'sampled':
        z = diffused_linear_shared(*diffused, num_noises=NUM_NOISES)
    elif layer == 'gram':
        z = diffused_linear_gram(*diffused)
    else:
        z = diffused_linear_naive(*diffused)
    h = denoiser.last_hidden(z + denoiser.time_shift(step[:, 3:]))
    h = h.to(weight.dtype)

    layer = output_form(*sizes, h.size(1)) if form == 'auto' else form
    square: Square = DenseSquare()
    if layer == 'sampled':
        square = SampledSquare(loss_weight, NUM_SAMPLES)
    elif layer == 'gram':
        square = GramSquare()
    error, projected = reconstruction(
        h, last, denoiser.lin_out.bias, lists, feature, square
    )
    return loss_weight * error, projected


def _masked(
    model: InteractionDiffusion,
    lists: CSR,
    feature: Tensor,
    form: str,
    t: Tensor,
    step: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Estimates sums over all items if :obj:`form="sampled"`, and is exact up
    to the rounding of the dropout probability otherwise. Items without
    observed interactions are not among those of the softmax.
    """
    process, denoiser = model.diffusion, model.denoiser
    weight, observed = denoiser.item_weight, denoiser.observed
    noise = torch.rand(lists.nnz, device=weight.device)
    kept = lists.filter(noise >= process.mask_prob[t][lists.row])
    value = unit_values(kept, weight.dtype) * process.scale[t][kept.row]
    if denoiser.training:
        value = dropout(value, denoiser.dropout)
    z = denoiser.first(kept, value) + denoiser.time_shift(step)
    h = denoiser.last_hidden(z).to(weight.dtype)
    bias: Tensor = denoiser.lin_out.bias
    index = None
    if form == 'auto':
        many = model.num_items > MAX_EXACT_ITEMS
        form = 'sampled' if many else 'dense'
    if form == 'sampled':
        index, log_weight = sampled_columns(lists, NUM_ITEMS, observed)
        lists, feature = lists.take_columns(index), feature[index]
        bias = bias[index] + log_weight.to(bias.dtype)
    elif observed is not None:
        allowed = observed.clone()
        allowed[lists.col] = True
        bias = bias.masked_fill(~allowed, float('-inf'))
    last = denoiser.last_weight(index)
    return multinomial(h, last, bias, lists, feature)


def input_form(
    batch_size: int, num_items: int, hidden_channels: int, dropout: float
) -> str:
    r"""The cheapest valid form of the first layer."""
    if dropout > 0 and not suits_gram(num_items, hidden_channels):
        return 'dense'
    b, i, h = batch_size, num_items, hidden_channels
    dense = 4 * b * i * h + FLOPS_PER_NOISE * b * i
    gram = 4 * i * h**2 + 4 * b * h**2 + 2 * CHOLESKY_PRODUCTS * h**3
    return 'gram' if gram < dense else 'dense'


def output_form(batch_size: int, num_items: int, hidden_channels: int) -> str:
    r"""The cheaper form of the last layer, where both are exact."""
    b, i, h = batch_size, num_items, hidden_channels
    dense = 6 * b * i * h
    gram = 4 * i * h**2 + 6 * b * h**2
    return 'gram' if gram < dense else 'dense'


def unit_values(lists: CSR, dtype: torch.dtype) -> Tensor:
    r"""The values :math:`(E)` that give rows unit length."""
    return lists.rowptr.diff().to(dtype).rsqrt()[lists.row]


def check_lists(
    model: InteractionDiffusion,
    interactions: CSR,
    item_emb: Tensor,
    modality_emb: Tensor,
    msi_weight: float,
    form: str,
) -> None:
    r"""Checks the arguments of :meth:`list_loss`."""
    check_choice('form', form, FORMS)
    if form == 'gram' and isinstance(model, MaskedInteractionDiffusion):
        raise ValueError(
            "'form' needs to be 'auto', 'dense' or 'sampled' with a masked "
            "'diffusion' (got 'gram')"
        )
    model.check_msi(msi_weight, item_emb, modality_emb)
    check_type('interactions', interactions, CSR)
    col = interactions.col
    if not col.is_cuda:  # Reading values would synchronize a GPU.
        check_index('interactions', col, model.num_items)
    check_same_device('interactions', col, model.denoiser.item_weight.device)
