r"""In which form a denoiser's two products with all items are trained."""

from diffmm_geo.ops.diffused_linear import suits_gram

FORMS = ('auto', 'dense', 'gram', 'sampled')

# To draw an element of noise and of dropout takes about as long as so many
# floating point operations of a product.
FLOPS_PER_NOISE = 3000
# A Cholesky factor and its gradient, as products of hidden size.
CHOLESKY_PRODUCTS = 9


def input_form(
    batch_size: int,
    num_items: int,
    hidden_channels: int,
    dropout: float,
) -> str:
    r"""The cheaper of the forms that hold for the layer that reads items."""
    if dropout > 0 and not suits_gram(num_items, hidden_channels):
        return 'dense'
    b, i, h = batch_size, num_items, hidden_channels
    dense = 4 * b * i * h + FLOPS_PER_NOISE * b * i
    gram = 4 * i * h**2 + 4 * b * h**2 + 2 * CHOLESKY_PRODUCTS * h**3
    return 'gram' if gram < dense else 'dense'


def output_form(batch_size: int, num_items: int, hidden_channels: int) -> str:
    r"""The cheaper of the forms of the layer that scores items, which are
    equal.
    """
    b, i, h = batch_size, num_items, hidden_channels
    dense = 6 * b * i * h
    gram = 4 * i * h**2 + 6 * b * h**2
    return 'gram' if gram < dense else 'dense'
