import pytest

from diffmm_geo.ops.spmm.block_shape import block_shape


@pytest.mark.parametrize(
    ('num_channels', 'element_size', 'width'),
    [
        (1, 4, 1),
        (5, 4, 8),
        (96, 4, 32),
        (192, 4, 64),
        (64, 2, 64),
        (256, 2, 256),
        (300, 8, 16),
    ],
)
def test_width_leaves_few_lanes_idle(num_channels, element_size, width):
    rows, got = block_shape(num_channels, element_size)
    assert got == width
    assert rows == min(128, 4096 // (width * max(4, element_size)))
