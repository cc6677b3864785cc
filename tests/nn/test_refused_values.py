r"""Numbers, shapes and names outside of their range. For other types, see
`tests/test_hostile_inputs.py`.
"""

import math

import pytest
import torch

from diffmm_geo.nn import (
    CrossModalContrastiveLoss,
    Denoiser,
    DiffMM,
    GaussianDiffusion,
    InteractionDiffusion,
    MaskedDiffusion,
    MaskedInteractionDiffusion,
    ModalityDiffusion,
    MultiModalLightGCNConv,
)

U, I, D = 9, 7, 4
X, EMB, LINEAR = torch.zeros(3, I), torch.zeros(I, D), torch.nn.Linear(1, 1)
EDGES, OBSERVED = torch.tensor([[0, 3], [1, 0]]), ('user', 'interacts', 'item')
MODEL = DiffMM(U, I, {'a': 3}, D)
DIFFUSION = ModalityDiffusion(I, ['a'], hidden_channels=5)
VIEWS = {'a': torch.randn(U, D)}
STEPS = [5, -1, torch.tensor([0, 5, 0]), torch.tensor([0, 1])]
OUTSIDE = [torch.tensor([[U], [0]]), torch.tensor([[0], [I]])]
LOSS = {
    'x_start': [torch.zeros(3, I + 1), X.long()],
    'item_emb': [torch.zeros(I + 1, D)],
    'modality_emb': [torch.zeros(I, D + 1)],
    'msi_weight': [-1.0],
    't': [torch.tensor([0, 5])],
}
# A call, its valid arguments, and values that each argument refuses.
CASES = [
    (MultiModalLightGCNConv, {'modalities': ['a']}, {
        'modalities': [[], 'image', ['a', 'a']],
        'generated_weight': [math.inf],
        'edge_type': [('user', 'item'), ('user', 'knows', 'user')],
    }),
    (DiffMM, {'num_users': U, 'num_items': I, 'modality_channels': {'a': 3}}, {
        'num_users': [0], 'num_items': [1.5], 'embedding_dim': [0],
        'modality_channels': [{'a': 0}, ['a'], {}], 'num_layers': [-1],
        'generated_weight': [math.nan], 'residual_weight': ['x'],
        'projection': ['cubic', {'image': 'linear'}],
        'edge_type': ['interacts'], 'standardize': ['yes'],
    }),
    (MODEL.forward, {
        'feature_dict': {'a': torch.randn(I, 3)}, 'return_views': True,
    }, {'edge_index_dict': [{}, {OBSERVED: EDGES}]}),
    (MODEL.forward, {'edge_index_dict': {OBSERVED: EDGES}}, {
        'feature_dict': [
            {}, {'a': torch.randn(I + 1, 3)}, {'a': torch.randn(I, 4)},
            {'a': torch.full((I, 3), math.inf)},
        ],
    }),
    (MODEL.loss, {
        'feature_dict': {'a': torch.randn(I, 3)}, 'reg_weight': 0.1,
        'edge_index_dict': {key: EDGES for key in MODEL.edge_types},
        'edge_label_index': EDGES, 'neg_item': torch.tensor([2, 6]),
    }, {
        'edge_label_index': [OUTSIDE[0], torch.zeros(3).long()],
        'neg_item': [torch.tensor([0]), torch.tensor([0, I])],
        'reg_weight': [-1.0], 'ssl_weight': [math.nan], 'temperature': [0.0],
        'anchor': ['user'], 'num_candidates': [0],
    }),
    (MODEL.recommend, {
        'feature_dict': {'a': torch.randn(I, 3)},
        'edge_index_dict': {OBSERVED: EDGES},
        'k': 2, 'exclude_edge_index': EDGES,
    }, {
        'k': [I + 1], 'exclude_edge_index': OUTSIDE[:1],
        'user_index': [torch.tensor([U])],
    }),
    (CrossModalContrastiveLoss, {}, {
        'anchor': ['user'], 'temperature': [0.0, -1.0, math.nan, math.inf],
    }),
    (CrossModalContrastiveLoss(anchor='main'), {
        'views': VIEWS, 'index': torch.tensor([0]), 'main': VIEWS['a'],
    }, {
        'views': [{}, VIEWS['a'], {**VIEWS, 'b': torch.randn(U + 1, D)}],
        'main': [None], 'index': [torch.tensor([U])],
    }),
    (GaussianDiffusion, {}, {
        'num_steps': [0, 2.0], 'noise_scale': [-0.1, 60.0],
        'noise_min': [-1e-4], 'noise_max': [1e-5, math.nan],
    }),
    (GaussianDiffusion().posterior_step, {'x_start': X, 'x_t': X, 't': 1}, {
        't': STEPS, 'x_t': [torch.zeros(3, 5)], 'noise': [torch.zeros(3, 5)],
    }),
    (MaskedDiffusion, {}, {'num_steps': [0, 1.5, True]}),
    (MaskedDiffusion().q_sample, {'x_start': X, 't': 1}, {
        'x_start': [torch.zeros(3), X.long()], 't': STEPS,
        'noise': [torch.zeros(3, 5), X.double()],
    }),
    (Denoiser, {'num_items': I}, {
        'num_items': [0], 'hidden_channels': [0, [], [4, -1]],
        'time_channels': [1], 'dropout': [1.0, -0.1],
    }),
    (InteractionDiffusion, {'num_items': I}, {
        'diffusion': [LINEAR, MaskedDiffusion()], 'denoiser': [LINEAR],
    }),
    (MaskedInteractionDiffusion, {'num_items': I}, {
        'diffusion': [LINEAR, GaussianDiffusion()],
    }),
    *(
        (part.loss, {
            'x_start': X, 'item_emb': EMB, 'modality_emb': EMB,
            'msi_weight': 0.1,
        }, LOSS)
        for part in (DIFFUSION['a'], MaskedInteractionDiffusion(I))
    ),
    # A masked row needs one evaluation, without noise.
    (MaskedInteractionDiffusion(I).sample, {'x_start': X}, {
        'sampling_noise': [True],
    }),
    (ModalityDiffusion, {'num_items': I, 'modalities': ['a']}, {
        'diffusion': [LINEAR],
    }),
    *(
        (part.sample_edges, {
            'modality': 'a', 'edge_index': EDGES, 'num_users': U,
        }, {
            'modality': ['audio'], 'edge_index': OUTSIDE, 'num_users': [-1],
            'num_edges_per_user': [I + 1, 0], 'sampling_steps': [6, -1],
            'candidates': [torch.tensor([I]), torch.tensor([0.5])],
            'exclude_observed': [1, None],
        })
        for part in (DIFFUSION, ModalityDiffusion(I, ['a'], normalize=True))
    ),
    (DIFFUSION.sample_edges, {
        'modality': 'a', 'edge_index': EDGES, 'num_users': U,
        'candidates': torch.tensor([1]),
    }, {'num_edges_per_user': [2]}),
]  # fmt: skip


def name_of(call):
    return getattr(call, '__qualname__', type(call).__name__)


@pytest.mark.parametrize(
    ('call', 'valid', 'name', 'value'),
    [
        pytest.param(call, valid, name, value, id=f'{name_of(call)}-{name}')
        for call, valid, refused in CASES
        for name, values in refused.items()
        for value in values
    ],
)
def test_is_refused(call, valid, name, value):
    with pytest.raises(ValueError, match=f"'{name}"):
        call(**{**valid, name: value})
