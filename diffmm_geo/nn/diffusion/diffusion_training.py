from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from diffmm_geo.nn.diffusion.modality_diffusion import ModalityDiffusion
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.utils.finite import FiniteLosses


def train_diffusion_epoch(
    diffusion: ModalityDiffusion,
    optimizer: Optimizer,
    interactions: ItemLists,
    item_emb: Tensor,
    modality_emb_dict: Mapping[str, Tensor],
    msi_weight: float = 0.1,
    batch_size: int = 1024,
    form: str = 'auto',
    on_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    r"""One pass over all users that trains the denoisers of modalities.

    Args:
        diffusion (ModalityDiffusion): The denoisers.
        optimizer (torch.optim.Optimizer): Their optimiser.
        interactions (ItemLists): The items of each user.
        item_emb (torch.Tensor): The item embeddings.
        modality_emb_dict (dict[str, torch.Tensor]): The projected features of
            each modality to train.
        msi_weight (float, optional): The weight of the MSI term.
            (default: :obj:`0.1`)
        batch_size (int, optional): The number of users a step.
            (default: :obj:`1024`)
        form (str, optional): How products with all items are taken; see
            :meth:`~diffmm_geo.nn.ModalityDiffusion.batch_loss`.
            (default: :obj:`"auto"`)
        on_step (callable, optional): Called after each step.
            (default: :obj:`None`)

    Returns:
        The mean loss of each modality.

    Raises:
        NonFiniteLossError: If a loss is infinite or not a number.
    """
    diffusion.train()
    device = item_emb.device
    num_users = interactions.num_rows
    total = {m: item_emb.new_zeros(()) for m in modality_emb_dict}
    order = torch.randperm(num_users, device=device)
    finite = FiniteLosses([f'diffusion_{m}' for m in modality_emb_dict])
    blocks = interactions.take(order).blocks(batch_size)
    for step, (_, batch) in enumerate(blocks, start=1):
        losses = []
        # Denoisers share no weights: each takes its step by itself, so that
        # the gradients of one at a time are held.
        for m in modality_emb_dict:
            optimizer.zero_grad()
            elbo, msi = diffusion.batch_loss(
                m, batch, item_emb, modality_emb_dict[m], msi_weight, form
            )
            loss = elbo.mean() + msi_weight * msi.mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            total[m] += losses[-1] * (batch.num_rows / num_users)
        finite.add(step, torch.stack(losses))
        if on_step is not None:
            on_step()
    finite.check()
    optimizer.zero_grad()  # Gradients are as large as the denoisers.
    return {m: float(loss) for m, loss in total.items()}
