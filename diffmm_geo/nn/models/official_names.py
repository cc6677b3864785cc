from collections.abc import Mapping, Sequence

from torch import Tensor

from diffmm_geo.nn.modality_name import module_name
from diffmm_geo.utils.checks import tensors_of


def from_official_names(
    state_dict: Mapping[str, Tensor], modalities: Sequence[str], like: Tensor
) -> dict[str, Tensor]:
    r"""Renames the parameters of the authors' model to those of DiffMM."""
    names = {
        'uEmbeds': 'user_emb.weight',
        'iEmbeds': 'item_emb.weight',
        'modal_weight': 'conv.modality_weight',
    }
    for m in modalities:
        ours = f'projections.{module_name(m)}'
        names[f'{m}_trans'] = f'{ours}.weight'
        names[f'{m}_trans.weight'] = f'{ours}.weight'
        names[f'{m}_trans.bias'] = f'{ours}.bias'
    tensors = tensors_of('state_dict', state_dict, like)
    return {names.get(key, key): x for key, x in tensors.items()}
