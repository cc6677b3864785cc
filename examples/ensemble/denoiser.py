r"""A masked diffusion over interactions as a recommender."""

import torch
from torch import Tensor
from torch.optim import Adam

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.ops import spmm
from diffmm_geo.sparse import CSR, SparseMatrix

# Denoisers have a modality, which has no effect without features.
NAME = 'interactions'


def train_denoiser(
    edge_index: Tensor,
    edge_label_index: Tensor,
    num_users: int,
    num_items: int,
    seed: int = 0,
    num_epochs: int = 1000,
    patience: int = 20,
    batch_size: int = 256,
    lr: float = 2e-3,
    hidden_channels: int = 200,
    k: int = 20,
) -> tuple[Tensor, Tensor]:
    r"""Trains a denoiser on batches of users, and returns the embeddings of
    users and items of the epoch with the best validation Recall. Their product
    are the denoiser's logits for the whole row of a user

    .. math::
        s_{ui} = \mathbf{w}_i^{\top} \mathbf{h}_u + b_i

    with the hidden layer :math:`\mathbf{h}_u`, and the weights
    :math:`\mathbf{w}_i` and the bias :math:`b_i` of the last layer.
    """
    device = edge_index.device
    lists = CSR.from_edge_index(
        edge_index, (num_users, num_items), coalesce=True
    )
    # Users without interactions have no loss.
    users = lists.rowptr.diff().nonzero().view(-1)
    no_features = torch.empty(num_items, 0, device=device)
    best, best_epoch, out = -1.0, 0, None
    with torch.random.fork_rng([device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        model = ModalityDiffusion(
            num_items,
            [NAME],
            MaskedDiffusion(num_steps=5),
            hidden_channels=hidden_channels,
        ).to(device)
        optimizer = Adam(model.parameters(), lr=lr, fused=True)
        for epoch in range(1, num_epochs + 1):
            order = torch.randperm(users.numel(), device=device)
            for batch in users[order].split(batch_size):
                nll, _ = model.batch_loss(
                    NAME, lists.take(batch), no_features, no_features
                )
                optimizer.zero_grad()
                nll.mean().backward()
                optimizer.step()
            emb = embeddings(model, lists)
            metrics = evaluate(*emb, edge_label_index, edge_index, k)
            if metrics[f'recall@{k}'] > best:
                best, best_epoch, out = metrics[f'recall@{k}'], epoch, emb
            elif epoch - best_epoch >= patience:
                break
    assert out is not None
    return out


@torch.no_grad()
def embeddings(model: ModalityDiffusion, lists: CSR) -> tuple[Tensor, Tensor]:
    r"""The hidden layer of each user, and the last layer's row of each item."""
    denoiser = model.denoisers[NAME]
    # Rows of unit length.
    value = lists.rowptr.diff().rsqrt()[lists.row]
    rows = SparseMatrix.from_coo(lists.row, lists.col, value, lists.size)
    step = lists.rowptr.new_zeros(1)
    user = denoiser.hidden(spmm(rows, denoiser.item_weight), step)
    lin = denoiser.lin_out
    # One more channel, which is one for all users, adds the bias.
    return (
        torch.cat([user, user.new_ones(user.size(0), 1)], dim=1),
        torch.cat([lin.weight, lin.bias.view(-1, 1)], dim=1),
    )
