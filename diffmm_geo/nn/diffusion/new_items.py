r"""Denoisers that also know new items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import check_keys, check_matrix, check_type


def with_new_items(
    diffusion: Any, feature_dict: Mapping[str, Tensor], interactions: CSR
) -> Any:
    r"""See :meth:`ModalityDiffusion.with_new_items`."""
    check_keys('feature_dict', feature_dict, diffusion.modalities)
    check_type('interactions', interactions, CSR)
    if not diffusion.has_features:
        raise ValueError(
            "'diffusion' needs features of known items to know new ones "
            '(got none)'
        )
    first = feature_dict[diffusion.modalities[0]]
    num_new = check_matrix('feature_dict', first).size(0)
    num_items = diffusion.num_items + num_new
    out = diffusion.from_config({**diffusion.config, 'num_items': num_items})
    out.to(next(diffusion.parameters())).train(diffusion.training)
    for m, denoiser in diffusion.denoisers.items():
        name, x = f"feature_dict['{m}']", feature_dict[m]
        check_matrix(name, x, num_new, denoiser.num_channels)
        out[m].denoiser.load_state_dict(extended(denoiser, x))
    size = interactions.size[0], num_items
    out.place_unobserved(CSR(interactions.rowptr, interactions.col, size))
    return out


@torch.no_grad()
def extended(denoiser: Denoiser, x: Tensor) -> dict[str, Tensor]:
    r"""The state of a denoiser with more items, which it knows by their raw
    features :math:`(N, C)` alone.
    """
    state, last = denoiser.state_dict(), f'decoder.{len(denoiser.decoder) - 1}'
    moments = denoiser.feature_mean, denoiser.feature_scale
    x = denoiser.standardized(x.to(denoiser.item_weight.device), moments)
    new = {'feature': x, 'observed': x.new_zeros(x.size(0), dtype=torch.bool)}
    for name in ('item_weight', f'{last}.weight', f'{last}.bias'):
        new[name] = x.new_zeros(x.size(0), *state[name].size()[1:])
    return state | {n: torch.cat([state[n], v]) for n, v in new.items()}
