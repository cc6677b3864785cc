r"""A pass over users that trains denoisers."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.list_loss import list_loss, step_table
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.finite import FiniteLosses


def train_parts(
    parts: Mapping[str, InteractionDiffusion],
    optimizer: Optimizer,
    interactions: CSR,
    item_emb: Tensor,
    modality_emb_dict: Mapping[str, Tensor],
    msi_weight: float,
    batch_size: int,
    form: str,
    on_step: Callable[[], None] | None,
) -> dict[str, float]:
    r"""Equals :meth:`ModalityDiffusion.train_epoch`, without checks."""
    tables = {m: step_table(part) for m, part in parts.items()}
    num_users, device = interactions.size[0], item_emb.device
    order = torch.randperm(num_users, device=device)
    names, weights = [f'diffusion_{m}' for m in parts], []
    finite = FiniteLosses(names, -(-num_users // batch_size))
    for _, batch in interactions.take(order).blocks(batch_size):
        losses = []
        # Only one denoiser at a time holds gradients.
        for m, part in parts.items():
            optimizer.zero_grad()
            args = item_emb, modality_emb_dict[m], msi_weight, form
            elbo, msi = list_loss(part, batch, *args, None, tables[m])
            loss = elbo.add(msi, alpha=msi_weight).mean()
            # Under autocast, gradients would be cast again.
            with torch.autocast(device.type, enabled=False):
                loss.backward()
            optimizer.step()
            # Autocast would go on with the weights it has cast before.
            torch.clear_autocast_cache()
            losses.append(loss.detach())
        weights.append(batch.size[0] / num_users)
        finite.add(torch.stack(losses))
        if on_step is not None:
            on_step()
    optimizer.zero_grad()  # Frees as much memory as the denoisers take.
    return dict(zip(parts, finite.means(weights).values()))
