r"""The Recall of denoisers on interactions that they have not seen."""

import warnings

import torch
from torch import Tensor

from diffmm_geo.evaluation import generation_metrics
from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.nn.diffusion.edge_sampling import edges_of
from diffmm_geo.ops import topk_items
from diffmm_geo.sparse import CSR

POPULARITY = 'popularity'


@torch.no_grad()
def denoiser_recall(
    diffusion: ModalityDiffusion,
    interactions: CSR,
    edge_label_index: Tensor,
    k: int,
) -> dict[str, float]:
    r"""The Recall of held-out interactions among the :obj:`k` unobserved items
    that each denoiser scores highest. :obj:`"popularity"` is the Recall among
    the :obj:`k` most popular unobserved items.

    Shapes:
        - **interactions:** :math:`(|\mathcal{U}|, |\mathcal{I}|)`
        - **edge_label_index:** :math:`(2, |\mathcal{T}|)`
    """
    users, num_items = edge_label_index[0].unique(), interactions.size[1]
    lists = interactions.take(users)
    degree = torch.bincount(interactions.col, minlength=num_items).double()
    popular = topk_items(
        degree.new_ones(users.numel(), 1), degree.view(-1, 1), k, exclude=lists
    )
    rankings = {POPULARITY: edges_of(popular)}
    for m in diffusion.modalities:
        rankings[m] = diffusion.sample_edges(
            m, lists, num_edges_per_user=k, exclude_observed=True
        )
    observed = torch.stack([interactions.row, interactions.col])
    return {
        name: generation_metrics(
            torch.stack([users[row], item]),
            observed,
            edge_label_index,
            num_items,
        )['recall']
        for name, (row, item) in rankings.items()
    }


def warn_below_popularity(
    recall: dict[str, float], k: int, likelihood: str
) -> None:
    r"""Warns of denoisers whose recall is below that of popularity, and
    advises what is not set already.
    """
    floor = recall[POPULARITY]
    below = {m: round(r, 4) for m, r in recall.items() if r < floor}
    if below:
        advice = 'Train for more epochs'
        if likelihood != 'multinomial':
            advice += ', or with likelihood="multinomial"'
        warnings.warn(
            f'these denoisers rank unseen items worse than popularity does, so '
            f'that their graphs add no information: Recall@{k} on validation '
            f'is {below} against {floor:.4f}. {advice}',
            stacklevel=4,
        )
