from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffmm_geo.utils.checks import check_matrix, check_modalities, check_values


def modality_features(
    store: Any, num_items: int, modalities: Sequence[str] | None = None
) -> dict[str, Tensor]:
    r"""The checked raw features :obj:`x_{m}` of an item store."""
    there = [key[2:] for key in store.keys() if key.startswith('x_')]
    if modalities is None:
        modalities = there
        if not there:
            raise ValueError(
                f"'data' needs item features 'x_{{modality}}' "
                f'(got {list(store.keys())})'
            )
    modalities = check_modalities(modalities)
    missing = [m for m in modalities if m not in there]
    if missing:
        raise ValueError(
            f"'modalities' needs names out of {there}, which have features "
            f'(got {missing})'
        )
    features = {}
    for m in modalities:
        name = f'x_{m}'
        x = check_matrix(name, store[name], num_items)
        if x.size(1) == 0:
            raise ValueError(f"'{name}' needs at least one channel (got none)")
        # Features are data and get no gradient.
        x = x.detach() if x.requires_grad else x
        features[m] = check_values(name, x)
    return features
