import pytest

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


@pytest.mark.parametrize(
    ('part', 'expected'),
    [
        (MultiModalLightGCNConv(['a']), "(['a'], generated_weight=0.2, "
            "edge_type=('user', 'interacts', 'item'))"),
        (DiffMM(3, 4, {'a': 2}, 8),
            "(3, 4, {'a': 2}, embedding_dim=8, num_layers=1)"),
        (CrossModalContrastiveLoss(0.2, 'main'),
            "(temperature=0.2, anchor='main')"),
        (GaussianDiffusion(),
            '(5, noise_scale=0.1, noise_min=0.0001, noise_max=0.02)'),
        (MaskedDiffusion(3), '(3)'),
        (Denoiser(7, [2, 3]), '(7, hidden_channels=[2, 3])'),
        (InteractionDiffusion(8), '(8)'),
        (MaskedInteractionDiffusion(8), '(8)'),
        (ModalityDiffusion(8, ['a', 'b']), "(8, ['a', 'b'])"),
    ],
)  # fmt: skip
def test_repr(part, expected):
    assert repr(part) == type(part).__name__ + expected
