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
    feature: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Trains a denoiser on batches of users, and returns the embeddings of
    users and items of the epoch with the best validation Recall. Their product
    are the denoiser's logits for the whole row of a user

    .. math::
        s_{ui} = \mathbf{w}_i^{\top} \mathbf{h}_u + b_i

    with the hidden layer :math:`\mathbf{h}_u`, and the weights
    :math:`\mathbf{w}_i` and the bias :math:`b_i` of the last layer, which see
    the features of a modality if they are given.
    """
    device = edge_index.device
    lists = CSR.from_edge_index(
        edge_index, (num_users, num_items), coalesce=True
    )
    # Users without interactions have no loss.
    trained = lists.take(lists.rowptr.diff().nonzero().view(-1))
    emb = torch.empty(num_items, 0, device=device)
    best, best_epoch, out = -1.0, 0, None
    with torch.random.fork_rng([device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        model = ModalityDiffusion(
            num_items,
            [NAME],
            MaskedDiffusion(num_steps=5),
            hidden_channels=hidden_channels,
        ).to(device)
        if feature is not None:
            observed = torch.bincount(lists.col, minlength=num_items) > 0
            model.set_features({NAME: feature}, observed)
        optimizer = Adam(model.parameters(), lr=lr, fused=True)
        for epoch in range(1, num_epochs + 1):
            model.train_epoch(
                *(optimizer, trained, emb, {NAME: emb}), batch_size=batch_size
            )
            model.place_unobserved(trained)
            vectors = embeddings(model, lists)
            metrics = evaluate(*vectors, edge_label_index, edge_index, k)
            if metrics[f'recall@{k}'] > best:
                best, best_epoch, out = metrics[f'recall@{k}'], epoch, vectors
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
    user = denoiser.hidden(spmm(rows, denoiser.first_weight), step)
    weight, bias = denoiser.last_weight(), denoiser.lin_out.bias
    # One more channel, which is one for all users, adds the bias.
    return (
        torch.cat([user, user.new_ones(user.size(0), 1)], dim=1),
        torch.cat([weight, bias.view(-1, 1)], dim=1),
    )
