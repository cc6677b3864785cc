r"""Cost models that choose the form of a denoiser's products."""

from diffmm_geo.ops.diffused_linear import suits_gram

FORMS = ('auto', 'dense', 'gram', 'sampled')

# Cost of an element of noise and dropout, in floating point operations.
FLOPS_PER_NOISE = 3000
# Cost of a Cholesky factor and its gradient, in products of hidden size.
CHOLESKY_PRODUCTS = 9


def input_form(
    batch_size: int, num_items: int, hidden_channels: int, dropout: float
) -> str:
    r"""The cheapest valid form of the first layer."""
    if dropout > 0 and not suits_gram(num_items, hidden_channels):
        return 'dense'
    b, i, h = batch_size, num_items, hidden_channels
    dense = 4 * b * i * h + FLOPS_PER_NOISE * b * i
    gram = 4 * i * h**2 + 4 * b * h**2 + 2 * CHOLESKY_PRODUCTS * h**3
    return 'gram' if gram < dense else 'dense'


def output_form(batch_size: int, num_items: int, hidden_channels: int) -> str:
    r"""The cheaper form of the last layer, where both are exact."""
    b, i, h = batch_size, num_items, hidden_channels
    dense = 6 * b * i * h
    gram = 4 * i * h**2 + 6 * b * h**2
    return 'gram' if gram < dense else 'dense'
